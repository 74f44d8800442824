import type { GivenImages } from './protocol.js';

/** A file and the path it was given under. */
export interface GivenFile {
  readonly file: File;
  readonly path: string;
}

/** Files of an input element. */
export function fromInput(files: FileList | null): GivenFile[] {
  return [...(files ?? [])].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

/** Everything that was dropped, folders with all they hold. */
export async function fromDrop(items: DataTransferItemList): Promise<GivenFile[]> {
  // Entries must be taken before the first wait: the list is emptied when the event is over.
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  return (await Promise.all(entries.map(walk))).flat();
}

async function walk(entry: FileSystemEntry): Promise<GivenFile[]> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    return [{ file, path: entry.fullPath.replace(/^\//, '') }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: GivenFile[] = [];
  for (;;) {
    // A reader gives its folder in portions, then nothing.
    const portion = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (portion.length === 0) return found;
    for (const inner of portion) found.push(...(await walk(inner)));
  }
}

/** The pictures among these files, in order of their paths; folders are classes where there are at least two. */
export function picturesOf(files: readonly GivenFile[]): GivenImages {
  const pictures = files
    .filter(({ file, path }) => file.type.startsWith('image/') || /\.(jpe?g|png|webp|avif|gif|bmp)$/i.test(path))
    .filter(({ path }) => !path.split('/').some((part) => part.startsWith('.')))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  const folders = pictures.map(({ path }) => path.split('/').at(-2) ?? '');
  const classes = [...new Set(folders)].sort();
  const several = classes.length > 1 && !classes.includes('');
  const top = pictures[0]?.path.split('/')[0] ?? '';
  return {
    name: several || folders[0] ? top : `${pictures.length} pictures`,
    pictures: pictures.map(({ file }) => file),
    labels: several ? folders.map((folder) => classes.indexOf(folder)) : [],
    classes: several ? classes : [],
  };
}
