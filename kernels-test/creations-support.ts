import * as assert from 'uvu/assert';

/** All that a device makes and that costs time or memory; command encoders are what replaying is made of. */
const METHODS = [
  'Buffer',
  'Texture',
  'Sampler',
  'BindGroup',
  'BindGroupLayout',
  'PipelineLayout',
  'ShaderModule',
  'ComputePipeline',
  'ComputePipelineAsync',
  'QuerySet',
];

/** The `create...` methods that `body` called on a device, in order. */
export async function creations(device: GPUDevice, body: () => Promise<void>): Promise<string[]> {
  const made: string[] = [];
  const names = METHODS.map((method) => `create${method}` as 'createBuffer');
  for (const name of names) {
    assert.type(device[name], 'function');
    const original = device[name].bind(device);
    device[name] = (descriptor) => {
      made.push(name);
      return original(descriptor);
    };
  }
  try {
    await body();
  } finally {
    // What was set on the object hid the methods of its class.
    for (const name of names) Reflect.deleteProperty(device, name);
  }
  return made;
}
