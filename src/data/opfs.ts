import { ExitCode, reasonOf, SopError } from '../errors.js';
import { type Checkpoint, readCheckpoint } from './checkpoint.js';
import { decodeSafetensors } from './safetensors.js';

/** A file of the origin's private file system that is written at once; only workers have it, and TypeScript's DOM lacks it. */
interface SyncFile {
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}
type OpfsFile = FileSystemFileHandle & { createSyncAccessHandle(): Promise<SyncFile> };

/** A whole checkpoint and its bytes. */
export interface StoredCheckpoint {
  readonly step: number;
  readonly bytes: Uint8Array;
  readonly checkpoint: Checkpoint;
}

const slots = ['checkpoint.0.safetensors', 'checkpoint.1.safetensors'] as const;

/**
 * Files of a run in the origin private file system (OPFS) of a browser, for dedicated workers. Checkpoints take turns in two
 * files, so that a tab that is closed in the middle of writing leaves the one before whole; each tensor has a checksum.
 */
export class CheckpointStore {
  private constructor(
    private readonly folder: FileSystemDirectoryHandle,
    /** The slot that the next checkpoint goes to; null as long as nobody has looked which is the older one. */
    private next: number | null = null,
    private saving: Promise<void> = Promise.resolve(),
  ) {}

  /** Opens the folder `name`, made where it is missing. @throws SopError 73 where the browser allows no storage */
  static async open(name: string): Promise<CheckpointStore> {
    try {
      const root = await navigator.storage.getDirectory();
      return new CheckpointStore(await root.getDirectoryHandle(name, { create: true }));
    } catch (cause) {
      throw new SopError(
        ExitCode.cannotCreate,
        {
          what: 'this browser keeps no files for the page',
          where: 'private file system',
          why: reasonOf(cause),
          fix: 'leave private browsing, or save the weights yourself before closing the tab',
        },
        { cause },
      );
    }
  }

  /** Writes a checkpoint over the older of the two. @throws SopError 74 when the storage is full; the newer one is whole then */
  save(bytes: Uint8Array): Promise<void> {
    const result = this.saving.then(async () => {
      if (this.next === null) await this.newest();
      const next = this.next ?? 0;
      await this.write(slots[next]!, bytes);
      this.next = 1 - next;
    });
    this.saving = result.catch(() => undefined);
    return result;
  }

  /** The newest checkpoint that is whole; null without one. `save` spares it. */
  async newest(): Promise<StoredCheckpoint | null> {
    let best: StoredCheckpoint | null = null;
    for (const [place, name] of slots.entries()) {
      const bytes = await this.read(name);
      if (!bytes) continue;
      try {
        const checkpoint = readCheckpoint(decodeSafetensors(bytes, name), name);
        if (best && best.step >= checkpoint.step) continue;
        best = { step: checkpoint.step, bytes, checkpoint };
        this.next = 1 - place;
      } catch (error) {
        if (!(error instanceof SopError)) throw error; // half written: the other one is whole
      }
    }
    return best;
  }

  /** Writes a file of the run. @throws SopError 74 when the storage is full */
  async write(name: string, bytes: Uint8Array): Promise<void> {
    let file: SyncFile | null = null;
    try {
      const handle = (await this.folder.getFileHandle(name, { create: true })) as OpfsFile;
      file = await handle.createSyncAccessHandle();
      file.truncate(0);
      const written = file.write(bytes, { at: 0 });
      if (written < bytes.length) throw new DOMException(`${written} of ${bytes.length} bytes`, 'QuotaExceededError');
      file.flush();
    } catch (cause) {
      throw storageError(cause, name);
    } finally {
      file?.close();
    }
  }

  /** A file of the run; null where it is missing. */
  async read(name: string): Promise<Uint8Array | null> {
    try {
      const file = await (await this.folder.getFileHandle(name)).getFile();
      return new Uint8Array(await file.arrayBuffer());
    } catch (error) {
      if (error instanceof DOMException && error.name === 'NotFoundError') return null;
      throw storageError(error, name);
    }
  }

  /** Removes everything. */
  async clear(): Promise<void> {
    const names: string[] = [];
    for await (const name of (this.folder as unknown as { keys(): AsyncIterable<string> }).keys()) names.push(name);
    for (const name of names) await this.folder.removeEntry(name);
    this.next = 0;
  }
}

function storageError(cause: unknown, name: string): SopError {
  if (cause instanceof SopError) return cause;
  const full = cause instanceof DOMException && cause.name === 'QuotaExceededError';
  return new SopError(
    ExitCode.io,
    {
      what: full ? 'the storage of this page is full' : 'the storage of this page failed',
      where: name,
      why: reasonOf(cause),
      fix: full
        ? 'free space on the disk or clear the data of other sites; save the weights as a file meanwhile'
        : 'write from one dedicated worker alone, or save the weights as a file',
    },
    { cause },
  );
}
