import { byId } from './dom.js';
import { fromDrop, fromInput, type GivenFile } from './given.js';

/** Files come by a button or by a drop anywhere on the page: both end in `take`. */
export function takeFiles(take: (files: readonly GivenFile[]) => void): void {
  for (const [button, input] of [
    ['use-folder', 'folder'],
    ['use-files', 'files'],
    ['open-file', 'opened'],
  ] as const) {
    byId(button).addEventListener('click', () => byId(input).click());
    byId<HTMLInputElement>(input).addEventListener('change', ({ target }) => {
      const element = target as HTMLInputElement;
      take(fromInput(element.files));
      element.value = ''; // the same file may be chosen again
    });
  }
  const veil = byId('drop');
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    veil.hidden = false;
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) veil.hidden = true;
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    veil.hidden = true;
    if (event.dataTransfer) void fromDrop(event.dataTransfer.items).then(take);
  });
}
