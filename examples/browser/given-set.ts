import { type ImageSet, pictureSet } from '../../src/index.js';
import type { FromWorker, GivenImages } from './protocol.js';

/** More pictures than these a page does not hold. */
const MOST_PICTURES = 4096;
/** Pixels of a picture: larger ones are reduced. */
const MOST_PIXELS = 200 * 200;

/**
 * Decodes what somebody gave; what was left out is told.
 * @throws SopError 66 where no picture is left
 */
export async function givenSet(
  { name, pictures, labels, classes }: GivenImages,
  post: (message: FromWorker) => void,
): Promise<ImageSet> {
  const bad: string[] = [];
  const set = await pictureSet(pictures.slice(0, MOST_PICTURES), {
    name,
    ...(labels.length > 0 && { labels, classes }),
    maxArea: MOST_PIXELS,
    onBad: (file) => bad.push(file),
    onProgress: (done, total) => post({ type: 'progress', what: 'Reading pictures', done, total }),
  });
  const left: string[] = [];
  if (pictures.length > MOST_PICTURES)
    left.push(`The first ${MOST_PICTURES} of ${pictures.length} pictures are used: a page holds no more.`);
  if (bad.length > 0) {
    const files = bad.length === 1 ? '1 file is no picture' : `${bad.length} files are no pictures`;
    const others = bad.length > 3 ? ` and ${bad.length - 3} more` : '';
    left.push(`${files} that this browser reads and left out: ${bad.slice(0, 3).join(', ')}${others}.`);
  }
  if (left.length > 0) post({ type: 'note', text: left.join(' ') });
  return set;
}
