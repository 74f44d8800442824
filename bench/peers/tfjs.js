import { createRequire } from 'node:module';
import { build } from 'esbuild';
import { EPS, VIT, withoutSelf } from './works.js';

/**
 * tfjs with its gradients, which only its ES modules bring; these name files without an extension, which Node does not
 * find, so they are bundled first.
 */
async function loadTfjs() {
  const contents = `export * from '@tensorflow/tfjs-core';
    import '@tensorflow/tfjs-core/dist/register_all_gradients';
    import '@tensorflow/tfjs-backend-webgpu';`;
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: import.meta.dirname },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    mainFields: ['module', 'main'],
    logLevel: 'silent',
    write: false,
  });
  const module = { exports: {} };
  new Function('module', 'exports', 'require', outputFiles[0].text)(
    module,
    module.exports,
    createRequire(import.meta.url),
  );
  return module.exports;
}

/** TensorFlow.js on its WebGPU backend. Expects `navigator.gpu` to give the adapter of the run. */
export async function makeTfjs() {
  const tf = await loadTfjs();
  if (!(await tf.setBackend('webgpu'))) throw new Error('tfjs finds no WebGPU');
  await tf.ready();

  const linear = (x, p, name) => tf.add(tf.matMul(x, p[`${name}.weight`], false, true), p[`${name}.bias`]);
  const norm = (x, gamma, beta) => {
    const { mean, variance } = tf.moments(x, -1, true);
    return tf.add(tf.mul(tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, EPS))), gamma), beta);
  };
  const gelu = (x) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1));
  const attend = (q, k, v) =>
    tf.matMul(tf.softmax(tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(q.shape.at(-1)))), v);

  function block(x, p, i, batch, length) {
    const { width, heads } = VIT;
    const at = `blocks.${i}`;
    const named = (name) => [p[`${at}.${name}.weight`], p[`${at}.${name}.bias`]];
    const qkv = linear(norm(x, ...named('norm1')), p, `${at}.attn.qkv`);
    const part = (n) =>
      tf.transpose(
        tf.reshape(tf.slice(qkv, [0, n * width], [-1, width]), [batch, length, heads, width / heads]),
        [0, 2, 1, 3],
      );
    const attended = tf.reshape(tf.transpose(attend(part(0), part(1), part(2)), [0, 2, 1, 3]), [batch * length, width]);
    const middle = tf.add(x, linear(attended, p, `${at}.attn.proj`));
    return tf.add(
      middle,
      linear(gelu(linear(norm(middle, ...named('norm2')), p, `${at}.mlp.fc1`)), p, `${at}.mlp.fc2`),
    );
  }

  function encode(p, { batch, length }) {
    const { width, depth, patch, channels, imageSize } = VIT;
    const side = imageSize / patch;
    const cells = tf.transpose(tf.reshape(p.images, [batch * channels, side, patch, side, patch]), [0, 1, 3, 2, 4]);
    const rows = tf.reshape(
      tf.transpose(tf.reshape(cells, [batch, channels, side * side, patch * patch]), [0, 2, 1, 3]),
      [batch * side * side, channels * patch * patch],
    );
    const patches = tf.reshape(linear(rows, p, 'patch_embed.proj'), [batch, length - 1, width]);
    const cls = tf.tile(tf.reshape(p.cls_token, [1, 1, width]), [batch, 1, 1]);
    let x = tf.reshape(tf.add(tf.concat([cls, patches], 1), p.pos_embed), [batch * length, width]);
    for (let i = 0; i < depth; i++) x = block(x, p, i, batch, length);
    return norm(x, p['norm.weight'], p['norm.bias']);
  }

  function gradients({ images, cotangent, ...parameters }, settings) {
    const names = Object.keys(parameters);
    const loss = (...values) => {
      const p = { images, ...Object.fromEntries(names.map((name, i) => [name, values[i]])) };
      return tf.sum(tf.mul(encode(p, settings), cotangent));
    };
    const all = tf.grads(loss)(Object.values(parameters));
    return all[names.indexOf('blocks.0.attn.qkv.weight')];
  }

  const runs = {
    matmul: ({ a, b }, { transA, transB }) => tf.matMul(a, b, transA, transB),
    softmax: ({ x }) => tf.softmax(x),
    layernorm: ({ x, gamma, beta }) => norm(x, gamma, beta),
    attention: ({ q, k, v }) => attend(q, k, v),
    neighbours: ({ memory }, { k, anchors }) =>
      tf.topk(tf.matMul(tf.slice(memory, [0, 0], [anchors, -1]), memory, false, true), k).values,
    encoder: (tensors, settings) => (settings.backward ? gradients(tensors, settings) : encode(tensors, settings)),
  };

  return {
    name: 'tfjs',
    async prepare(work, inputs) {
      const run = runs[work.op];
      if (!run) return null;
      const tensors = Object.fromEntries(
        Object.entries(inputs).map(([name, { shape, data }]) => [name, tf.tensor(data, shape)]),
      );
      let last;
      return {
        launch() {
          last?.dispose();
          last = tf.tidy(() => run(tensors, work.settings));
        },
        async wait() {
          const one = tf.tidy(() => tf.slice(tf.reshape(last, [-1]), [0], [1]));
          await one.data();
          one.dispose();
        },
        async result() {
          const values = await last.data();
          return work.op === 'neighbours' ? withoutSelf(values, work.settings.k) : values;
        },
        dispose() {
          last?.dispose();
          for (const tensor of Object.values(tensors)) tensor.dispose();
        },
      };
    },
  };
}
