import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { root } from './bundle.js';

/**
 * `npm run reference`: writes examples/reference.md from the declarations that the compiler made of src/index.ts and the
 * comments on them, so that the reference says what the code says.
 */

const OUTPUT = 'examples/reference.md';

/** What most programs use, in this order, in full; every other export is listed with its first sentence and its errors. */
const chapters: readonly (readonly [title: string, names: readonly string[]])[] = [
  ['Opening the engine', ['createEngine', 'EngineOptions', 'Engine', 'planTraining']],
  [
    'Pictures',
    [
      'pictureSet',
      'PictureSetOptions',
      'Picture',
      'decodePicture',
      'residentSet',
      'ResidentInit',
      'ImageSet',
      'DecodedImage',
      'subset',
    ],
  ],
  [
    'Embedding',
    [
      'ImageEncoder',
      'Features',
      'loadWeights',
      'WeightOverrides',
      'LoadedWeights',
      'VitShape',
      'evaluateFeatures',
      'Evaluation',
      'Comparison',
      'KnnResult',
      'Nearest',
      'Spread',
    ],
  ],
  [
    'Training',
    [
      'TrainingRun',
      'TrainingOptions',
      'SetupProgress',
      'RunOptions',
      'Settings',
      'configOf',
      'settingsOf',
      'StepRecord',
      'StepValues',
      'StepResult',
      'LossScaleResult',
      'metricsLine',
      'evaluationLine',
      'BatchPictures',
      'ViewPicture',
      'PrototypePicture',
      'Member',
    ],
  ],
  [
    'Kernels',
    [
      'EngineKernel',
      'KernelTensor',
      'DType',
      'Spec',
      'Elements',
      'KernelAttributes',
      'Scalar',
      'attention',
      'AttentionAttributes',
      'Segment',
      'gelu',
      'layernorm',
      'matmul',
      'MatmulAttributes',
      'neighbours',
      'NeighboursAttributes',
      'softmax',
      'sopProbabilities',
      'SopAttributes',
      'ops',
    ],
  ],
  [
    'Files',
    [
      'CheckpointStore',
      'StoredCheckpoint',
      'encodeSafetensors',
      'EncodeOptions',
      'decodeSafetensors',
      'SafetensorsFile',
      'NamedArray',
    ],
  ],
  ['Errors', ['SopError', 'Complaint', 'ExitCode']],
];

const snippets = [
  ['Embed pictures with given weights', 'embed'],
  ['Train for some steps, with a callback', 'train'],
  ['Run one kernel on buffers of your own', 'kernel'],
] as const;

interface Declaration {
  readonly name: string;
  /** As the compiler declares it, without comments on it. */
  readonly code: string;
  /** Its JSDoc as Markdown; empty without one. */
  readonly comment: string;
}

const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');

/** `name -> file` of everything that a file exports or imports from files beside it or in folders there. */
function namesFrom(path: string, keyword: 'export' | 'import'): Map<string, string> {
  const found = new Map<string, string>();
  const statement = new RegExp(`^${keyword} (?:type )?\\{([^}]*)\\} from '\\./([^']+)\\.js'`, 'gm');
  for (const [, names = '', file = ''] of read(path).matchAll(statement))
    for (const name of names.split(',')) {
      const plain = name.trim().replace(/^type /, '');
      if (plain) found.set(plain, file);
    }
  return found;
}

/** The declaration of `name` in a file's .d.ts, re-exports followed. */
function declarationOf(name: string, file: string): Declaration {
  const text = read(`dist/src/${file}.d.ts`);
  const start = new RegExp(
    `^export (?:declare )?(?:abstract )?(?:class|function|interface|type|const) ${name}\\b`,
    'm',
  ).exec(text);
  if (!start) {
    const elsewhere = new RegExp(`^export .*\\b${name}\\b.* from '\\./([^']+)\\.js'`, 'm').exec(text);
    if (elsewhere) return declarationOf(name, new URL(elsewhere[1] ?? '', `file:///${file}`).pathname.slice(1));
    throw new Error(`${file}.d.ts declares no ${name}`);
  }
  const before = /\/\*\*(?:(?!\*\/)[\s\S])*\*\/\s*$/.exec(text.slice(0, start.index))?.[0] ?? '';
  return { name, code: codeFrom(text.slice(start.index)), comment: markdown(before) };
}

/** One declaration from the beginning of `text`: to the brace that closes it, or the semicolon. Private members left out. */
function codeFrom(text: string): string {
  let depth = 0;
  let end = 0;
  for (; end < text.length; end++) {
    const character = text[end];
    if (character === '{' || character === '(') depth += 1;
    if (character === '}' || character === ')') depth -= 1;
    if (depth === 0 && (character === ';' || (character === '}' && /^\s*\n(?![&|\]])/.test(text.slice(end + 1)))))
      break;
  }
  return text
    .slice(0, end + 1)
    .replace(/^export (declare )?/, '')
    .replace(/^ +(\/\*\*((?!\*\/)[\s\S])*\*\/\n +)?private .*\n/gm, '')
    .replace(/import\("[^"]+"\)\./g, '')
    .replace(/^ {4}/gm, '  ');
}

/** A JSDoc comment as a paragraph, `@throws` and `@param` as a list. */
function markdown(comment: string): string {
  const lines = comment
    .trim()
    .replace(/^\/\*\*|\*\/$/g, '')
    .split('\n')
    .map((line) => line.replace(/^\s*\* ?/, '').trim());
  const [text = '', ...tags] = lines
    .join('\n')
    .trim()
    .split(/\n?@(?=throws|param|returns)/);
  const list = tags.map((tag) =>
    tag
      .replace(/\s+/g, ' ')
      .trim()
      .replace(/^(throws|returns) /, '*$1* ')
      .replace(/^param (\S+) /, '`$1`: '),
  );
  return [text.trim(), list.map((line) => `- ${line}`).join('\n')].filter(Boolean).join('\n\n');
}

/** The first sentence of a comment, and its errors. */
function inShort(comment: string): string {
  const [text = '', ...tags] = comment.split(/^- /m);
  const [first = ''] = text.replace(/\s+/g, ' ').split(/(?<=\.) (?=[A-Z`])/);
  const throws = tags.filter((tag) => tag.startsWith('*throws*')).map((tag) => tag.trim().replace(/\.?$/, '.'));
  return [first.trim(), ...throws].filter(Boolean).join(' ');
}

/** What the reference says of `ops`, whose type is the types of all of them: which there are. */
function listOfOps(): string {
  const lines = [...namesFrom('src/ops/index.ts', 'import')].map(([name, file]) => {
    const said = inShort(declarationOf(name, `ops/${file}`).comment);
    return `- \`${name}\`${said && `: ${said}`}`;
  });
  return lines.join('\n');
}

/** The whole page. Needs dist/src to be built. */
export function makeReference(): string {
  if (!existsSync(new URL('dist/src/index.d.ts', root))) throw new Error('dist/ is missing: run `npm run build`');
  const exported = namesFrom('src/index.ts', 'export');
  const parts = [
    '# sop-gpu in a program of yours\n',
    '<!-- Made by `npm run reference` from src/index.ts and the comments there: do not edit. -->\n',
    "`import { createEngine } from 'sop-gpu'` works in pages, in dedicated workers and in Node; `sop-gpu/node` adds `openNodeGpu`, which opens an adapter there: `new Engine(await openNodeGpu())`. Nothing of Node is in its graph. Shapes are row-major; numbers are f32 unless said. Every error for people is a `SopError` with one sentence that says what to do. TypeScript needs version 5.7, `DOM` in `lib` and, for `GPUBufferUsage`, which that library lacks, `@webgpu/types` (it comes with the package) in `types`; where the library has the rest of WebGPU, as from version 6 on, also `skipLibCheck`. 'The paper' is Self-Organizing Visual Prototypes for Non-Parametric Representation Learning (Silva, Pedrini and Ramírez Rivera, ICML 2025).\n",
    'The three programs below are files of `examples/snippets`, and tests run them in a browser as they stand.\n',
  ];
  for (const [title, name] of snippets)
    parts.push(`## ${title}\n`, `\`\`\`ts\n${read(`examples/snippets/${name}.ts`).trimEnd()}\n\`\`\`\n`);
  for (const [title, names] of chapters) {
    parts.push(`## ${title}\n`);
    for (const name of names) {
      const file = exported.get(name);
      if (!file) throw new Error(`src/index.ts exports no ${name}: correct the chapters of examples/reference.ts`);
      exported.delete(name);
      const { code, comment } = declarationOf(name, file);
      parts.push(`### \`${name}\`\n`);
      if (name !== 'ops') parts.push(`\`\`\`ts\n${code}\n\`\`\`\n`);
      if (comment) parts.push(`${comment}\n`);
      if (name === 'ops') parts.push(`${listOfOps()}\n`);
    }
  }
  parts.push('## The parts that these are made of\n');
  for (const [name, file] of [...exported].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const said = inShort(declarationOf(name, file).comment);
    parts.push(`- \`${name}\` (\`src/${file}.ts\`)${said && `: ${said}`}`);
  }
  parts.push('\n## Browsers\n', read('examples/browsers.md').trimEnd(), '');
  return parts.join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(new URL(OUTPUT, root), makeReference());
  console.log(OUTPUT);
}
