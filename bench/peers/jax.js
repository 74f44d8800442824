import { EPS, VIT, withoutSelf } from './works.js';

/** Iterators of Node 20 lack what jax-js expects of them. */
const iterators = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()));
iterators.map ??= function* (change) {
  for (const value of this) yield change(value);
};
iterators.filter ??= function* (keeps) {
  for (const value of this) if (keeps(value)) yield value;
};
iterators.toArray ??= function () {
  return [...this];
};

/** jax-js on WebGPU, every work jitted. Expects `navigator.gpu` to give the adapter of the run. */
export async function makeJax() {
  // Asks for the GPU when it is loaded: so only now.
  const jax = await import('@jax-js/jax');
  const { numpy: np, nn, lax } = jax;
  if (!(await jax.init('webgpu')).includes('webgpu')) throw new Error('jax-js finds no WebGPU');
  jax.defaultDevice('webgpu');

  // Arrays are consumed by what uses them; `.ref` keeps one for another use.
  const kept = (p) => Object.fromEntries(Object.entries(p).map(([name, array]) => [name, array.ref]));
  const linear = (x, p, name) => np.matmul(x, p[`${name}.weight`].ref.transpose()).add(p[`${name}.bias`].ref);
  const norm = (x, gamma, beta) => nn.standardize(x, -1, { epsilon: EPS }).mul(gamma).add(beta);

  function block(x, p, i, batch, length) {
    const { width, heads } = VIT;
    const at = `blocks.${i}`;
    const named = (name) => [p[`${at}.${name}.weight`].ref, p[`${at}.${name}.bias`].ref];
    const qkv = linear(norm(x.ref, ...named('norm1')), p, `${at}.attn.qkv`);
    const [q, k, v] = np.split(qkv, 3, -1).map((part) => part.reshape([batch, length, heads, width / heads]));
    const attended = nn.dotProductAttention(q, k, v).reshape([batch * length, width]);
    const middle = x.add(linear(attended, p, `${at}.attn.proj`));
    const hidden = nn.gelu(linear(norm(middle.ref, ...named('norm2')), p, `${at}.mlp.fc1`), { approximate: false });
    return middle.add(linear(hidden, p, `${at}.mlp.fc2`));
  }

  const encoder =
    ({ batch, length }) =>
    (p, images) => {
      const { width, depth, patch, channels, imageSize } = VIT;
      const side = imageSize / patch;
      const rows = images
        .reshape([batch, channels, side, patch, side, patch])
        .transpose([0, 2, 4, 1, 3, 5])
        .reshape([batch * side * side, channels * patch * patch]);
      const patches = linear(rows, p, 'patch_embed.proj').reshape([batch, length - 1, width]);
      const cls = np.tile(p.cls_token.ref.reshape([1, 1, width]), [batch, 1, 1]);
      let x = np
        .concatenate([cls, patches], 1)
        .add(p.pos_embed.ref)
        .reshape([batch * length, width]);
      for (let i = 0; i < depth; i++) x = block(x, p, i, batch, length);
      return norm(x, p['norm.weight'].ref, p['norm.bias'].ref);
    };

  function encode(settings) {
    const forward = encoder(settings);
    if (!settings.backward) {
      const run = jax.jit((p, images) => {
        const tokens = forward(p, images);
        jax.tree.dispose(p);
        return tokens;
      });
      return ({ images, cotangent: _, ...p }) => run(kept(p), images.ref);
    }
    const loss = (p, images, cotangent) => {
      const result = forward(p, images).mul(cotangent).sum();
      jax.tree.dispose(p);
      return result;
    };
    const run = jax.jit(jax.grad(loss));
    return ({ images, cotangent, ...p }) => {
      const { 'blocks.0.attn.qkv.weight': result, ...others } = run(kept(p), images.ref, cotangent.ref);
      return [result, ...Object.values(others)];
    };
  }

  /** Functions of the resident arrays that give an array, or a list of which the first is what counts. */
  const builders = {
    matmul({ transA, transB }) {
      const flip = (x, on) => (on ? x.transpose() : x);
      const run = jax.jit((a, b) => np.matmul(flip(a, transA), flip(b, transB)));
      return ({ a, b }) => run(a.ref, b.ref);
    },
    softmax() {
      const run = jax.jit((x) => nn.softmax(x, -1));
      return ({ x }) => run(x.ref);
    },
    layernorm() {
      const run = jax.jit(norm);
      return ({ x, gamma, beta }) => run(x.ref, gamma.ref, beta.ref);
    },
    attention() {
      const heads = (x) => x.reshape([x.shape[0], x.shape[1], 1, x.shape[2]]);
      const run = jax.jit((q, k, v) => nn.dotProductAttention(heads(q), heads(k), heads(v)));
      return ({ q, k, v }) => run(q.ref, k.ref, v.ref);
    },
    neighbours({ k, anchors }) {
      const run = jax.jit((memory) => {
        const scores = np.matmul(memory.ref.slice([0, anchors]), memory.transpose());
        const [values, index] = lax.topK(scores, k);
        index.dispose();
        return values;
      });
      return ({ memory }) => run(memory.ref);
    },
    encoder: encode,
  };

  return {
    name: 'jax-js',
    async prepare(work, inputs) {
      const build = builders[work.op];
      if (!build) return null;
      const run = build(work.settings);
      const arrays = Object.fromEntries(
        Object.entries(inputs).map(([name, { shape, data }]) => [name, np.array(data, { shape })]),
      );
      await jax.blockUntilReady(arrays);
      let results = [];
      const disposeAll = () => {
        for (const result of results) result.dispose();
        results = [];
      };
      return {
        launch() {
          results.unshift(...[run(arrays)].flat());
        },
        async wait() {
          await jax.blockUntilReady(results);
          await results[0].ref.reshape([-1]).slice([0, 1]).data();
          for (const old of results.splice(1)) old.dispose();
        },
        async result() {
          const values = await results[0].ref.data();
          return work.op === 'neighbours' ? withoutSelf(values, work.settings.k) : values;
        },
        dispose() {
          disposeAll();
          for (const array of Object.values(arrays)) array.dispose();
        },
      };
    },
  };
}
