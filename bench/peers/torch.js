import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { VIT } from './works.js';

/** Whether `python3` has PyTorch; its version. */
export function torchVersion() {
  const { status, stdout } = spawnSync('python3', ['-c', 'import torch; print(torch.__version__)'], {
    encoding: 'utf8',
  });
  return status === 0 ? stdout.trim() : undefined;
}

/**
 * PyTorch on the CPU, in a process of its own that measures itself: it has no queue to wait for.
 * @param {'dense' | 'structured'} form of the SOP head
 */
export function makeTorch(form) {
  return {
    name: form === 'dense' ? 'torch' : `torch-${form}`,
    async prepare(work, inputs) {
      const known = work.op === 'sop_head' || (work.op === 'encoder' && form === 'dense');
      if (!known) return null;
      const folder = mkdtempSync(join(tmpdir(), 'sop-gpu-peers-'));
      const child = spawn('python3', [fileURLToPath(new URL('torch_peer.py', import.meta.url))], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      const ask = async (request) => {
        child.stdin.write(`${JSON.stringify(request)}\n`);
        const { value, done } = await answers.next();
        if (done) throw new Error(`torch ended at ${Object.keys(request)[0]} of ${work.op}`);
        return JSON.parse(value);
      };
      const files = Object.entries(inputs).map(([name, { shape, data }]) => {
        const file = join(folder, name);
        writeFileSync(file, data);
        return [name, [file, shape]];
      });
      const settings = { ...work.settings, form, vit: VIT };
      await ask({ prepare: work.op, settings, inputs: Object.fromEntries(files) });
      return {
        /** Milliseconds that `times` runs took. */
        timed: async (times) => (await ask({ run: times })).ms,
        async result() {
          const file = join(folder, 'result');
          await ask({ result: file });
          const bytes = readFileSync(file);
          return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
        },
        dispose() {
          child.stdin.end();
          rmSync(folder, { recursive: true });
        },
      };
    },
  };
}
