import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Op } from '../src/graph/op.js';
import { ops as opList } from '../src/ops/index.js';
import { opTests } from './index.js';
import { projectFile } from './project.js';

/** Each family has three files of one name and a line in each of two lists; a missing piece is named with what to do. */
const ops = opList as readonly unknown[] as readonly Op[];

const names = (folder: string, ending: string): string[] =>
  readdirSync(projectFile(folder))
    .filter((file) => file.endsWith(ending))
    .map((file) => file.slice(0, -ending.length));

/** The ops that each file of src/ops exports; helpers export none. */
const definitions = new Map<string, readonly Op[]>();
for (const file of names('src/ops', '.ts').filter((name) => name !== 'index')) {
  const module = (await import(`../src/ops/${file}.js`)) as Record<string, unknown>;
  const exported = Object.values(module).filter(
    (value) => value instanceof Object && 'infer' in value && 'launches' in value,
  );
  if (exported.length > 0) definitions.set(file, exported as Op[]);
}
const defined = (family: string): string[] => (definitions.get(family) ?? []).map(({ name }) => name);
const families = [...definitions.keys()];

/** Ops whose name is the family's or begins with it. */
const belongs = (op: string, family: string): boolean =>
  op === family || op.startsWith(`${family}_`) || inverse[op] === family;

/** Derivatives that are ops of their own right have their own name. */
const inverse: Readonly<Record<string, string>> = { scatter_rows: 'gather_rows' };

function checklist(missing: readonly (string | false | undefined)[]): void {
  const list = missing.filter((line) => typeof line === 'string');
  assert.is(list.length, 0, `to do:${list.map((line) => `\n  - ${line}`).join('')}`);
}

for (const family of families) {
  test(`${family} has all its pieces`, () => {
    const present = (path: string): boolean => existsSync(projectFile(path));
    const pieces = defined(family).flatMap((name) => {
      const op = ops.find((listed) => listed.name === name);
      // A derivative may do without cases of its own: those of the op that it belongs to run it.
      const declared = opTests.filter((declaration) => declaration.op.name === name);
      return [
        !belongs(name, family) &&
          `rename op ${name}, or move it to src/ops/${name}.ts: a family's ops begin with its name`,
        !op && `add ${name} to the list in src/ops/index.ts`,
        declared.length === 0 &&
          `declare the test of ${name} in kernels-test/${family}.ts and list it in kernels-test/index.ts`,
        declared.length > 0 &&
          declared.every(({ cases }) => cases.length === 0) &&
          !name.endsWith('_backward') &&
          `give the test of ${name} cases`,
        op &&
          declared.some((declaration) => declaration.op !== op) &&
          `the test of ${name} declares another op object than the listed one`,
        op?.derivative &&
          declared.length > 0 &&
          !declared.some(({ gradient }) => gradient) &&
          `${name} has a derivative: say in its test which inputs and outputs it concerns (gradient)`,
        op &&
          !op.derivative &&
          declared.some(({ gradient }) => gradient) &&
          `the test of ${name} has a gradient, the op no derivative`,
      ];
    });
    checklist([
      !present(`shaders/${family}.wgsl.ts`) && `write shaders/${family}.wgsl.ts: formulas, shapes, entry points`,
      !present(`kernels-test/${family}.ts`) &&
        `write kernels-test/${family}.ts: float64 reference, cases, tolerance with its reason`,
      ...pieces,
    ]);
  });
}

test('every op of the list is defined in src/ops, once', () => {
  const known = families.flatMap(defined);
  checklist(ops.map(({ name }) => !known.includes(name) && `define ${name} in src/ops with defineOp`));
  assert.is(new Set(ops.map(({ name }) => name)).size, ops.length, 'an op is listed twice');
});

test('every shader file and every op test belongs to an op', () => {
  const shaders = names('shaders', '.wgsl.ts').filter((name) => !families.includes(name));
  const tests = opTests.filter(({ op }) => !ops.some((listed) => listed === op));
  checklist([
    ...shaders.map((name) => `export the op of shaders/${name}.wgsl.ts from src/ops/${name}.ts`),
    ...tests.map(({ op }) => `the test of ${op.name} tests an op that is not listed in src/ops/index.ts`),
  ]);
});

test('shader files begin with what they compute', () => {
  const silent = names('shaders', '.wgsl.ts').filter(
    (name) => !readFileSync(projectFile(`shaders/${name}.wgsl.ts`), 'utf8').startsWith(`// ${name}`),
  );
  checklist(
    silent.map(
      (name) => `begin shaders/${name}.wgsl.ts with a comment "// ${name}: <formula>" and the shape of each binding`,
    ),
  );
});

/** The function that makes a kernel, and the constant part of its label. */
const kernelFunction = /^export function (\w+)\(.*?\): Kernel \{.*?\blabel: ['`](\w+)\.([a-z_]*[a-z])/gms;

test('a label names shader file and entry point, for messages, as does the function that makes the kernel', () => {
  const wrong = names('shaders', '.wgsl.ts').flatMap((name) => {
    const text = readFileSync(projectFile(`shaders/${name}.wgsl.ts`), 'utf8');
    const kernels = [...text.matchAll(kernelFunction)];
    const count = text.split('label: ').length - 1;
    return [
      kernels.length !== count && `export one function(...): Kernel for each label of shaders/${name}.wgsl.ts`,
      ...kernels.map(([, made, file, entry]) => {
        const wanted = `${name}_${entry}_kernel`.replace(/_+([a-z])/g, (_, letter: string) => letter.toUpperCase());
        return (
          (file !== name || made !== wanted) &&
          `in shaders/${name}.wgsl.ts ${wanted} makes '${name}.${entry}', not ${made}`
        );
      }),
    ];
  });
  checklist(wrong);
});

test.run();
