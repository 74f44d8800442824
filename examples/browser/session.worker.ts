import type { FromWorker, ToWorker } from './protocol.js';
import { Session } from './session.js';

/** The worker in which everything computes. */
const session = new Session((message: FromWorker, transfer: Transferable[] = []) =>
  globalThis.postMessage(message, { transfer }),
);
globalThis.addEventListener('message', ({ data }: MessageEvent<ToWorker>) => session.receive(data));
