import * as assert from 'uvu/assert';
import { Engine, SopError, softmax } from '../src/index.js';
import { openNodeGpu } from '../src/node.js';

/** An engine for the tests of one process, and what they all ask of it: mistakes cost a sentence, never the device. */

export const engine = new Engine(await openNodeGpu({ quiet: true }));
export const { device } = engine.gpu;
export const { STORAGE, COPY_SRC, COPY_DST } = GPUBufferUsage;
export const buffer = (size: number, usage = STORAGE | COPY_SRC | COPY_DST) => device.createBuffer({ size, usage });

/** Rejects with this exit code and one line like this. */
export async function refuses(work: () => Promise<unknown>, exitCode: number, line: RegExp): Promise<void> {
  const error = await work().then(
    () => null,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof SopError, `${error}`);
  assert.is(error.exitCode, exitCode, error.message);
  assert.match(error.message, line);
  assert.not.match(error.message, /\n/);
}

/** The device still computes: one mistake has not cost everything else that was made on it. */
export async function stillWorks(): Promise<void> {
  const kernel = await engine.kernel(softmax, [{ shape: [1, 4], buffer: buffer(16) }], {});
  await kernel.run();
  assert.equal([...(await kernel.read())], [0.25, 0.25, 0.25, 0.25]);
  kernel.destroy();
}
