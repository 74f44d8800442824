import type { Config } from '../config/schema.js';
import type { DataSplits, ImageSet } from '../data/dataset.js';
import { type OpenOptions, openDataset } from '../data/node/open.js';
import { ExitCode, SopError } from '../errors.js';
import type { ConfigOptions } from './options.js';
import type { Printer } from './printer.js';
import { CountProgress } from './progress.js';
import { SkippedImages } from './skipped-images.js';

/** Opens what `--data` names, says how far it is, and warns of what was left out. @throws as `openDataset` */
export async function openImages(
  data: string,
  options: Pick<OpenOptions, 'onBadImage' | 'standIn'>,
  printer: Printer,
  skipped = new SkippedImages(printer),
): Promise<DataSplits> {
  const progress = new CountProgress('images read', printer);
  return openDataset(data, {
    ...options,
    onBad: skipped.add,
    onNote: (note) => printer.warn(note),
    onProgress: (done, total) => progress.update(done, total),
  }).finally(() => progress.stop());
}

/**
 * `data.mean` and `data.std` have one number for all channels, or one for each.
 *
 * @throws SopError 64 or 78, by where they were given
 */
export function checkStatistics({ data }: Config, { channels, name }: ImageSet, { set = [] }: ConfigOptions): void {
  const given = data.mean?.length ?? 1;
  if (given === 1 || given === channels) return;
  const byFlag = set.some((pair) => /^\s*data\.(mean|std)\s*=/.test(pair));
  throw new SopError(byFlag ? ExitCode.usage : ExitCode.config, {
    what: 'data.mean and data.std do not fit the images',
    where: name,
    why: `they have ${given} numbers, its images ${channels} channel`,
    fix: 'give one number each, or leave them out',
  });
}
