import { createEngine, softmax } from 'sop-gpu';

/** Softmax over the rows of a matrix in a buffer of one's own, on a device of one's own. */
export async function softmaxRows(device: GPUDevice, values: Float32Array<ArrayBuffer>, columns: number) {
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const buffer = device.createBuffer({ size: values.byteLength, usage });
  device.queue.writeBuffer(buffer, 0, values);

  const engine = await createEngine({ device });
  const kernel = await engine.kernel(softmax, [{ shape: [values.length / columns, columns], buffer }], {});
  await kernel.run();
  const result = await kernel.read();
  kernel.destroy();
  await engine.close(); // the device stays open: it is the caller's
  buffer.destroy();
  return result;
}
