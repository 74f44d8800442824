import { isMap, isPair, isScalar, LineCounter, type Node, type Pair, parseDocument, stringify } from 'yaml';
import { ExitCode, reasonOf, SopError } from '../errors.js';
import { flattenConfig, nestKeys, sections } from './keys.js';
import type { Layer, Setting } from './layer.js';
import type { Config } from './schema.js';

/** Configuration files. A file is a mapping of sections (`model: { width: 64 }`) or of dotted keys (`model.width: 64`). */

/** No configuration is this long; a parser should not be fed what is. */
const longestFile = 1 << 20;

function malformed(where: string, why: string, fix: string): SopError {
  return new SopError(ExitCode.config, { what: 'bad configuration file', where, why, fix });
}

/** Enough of what a parser quotes: a file that is no YAML has lines of any length. */
const longestClause = 120;

/** The first clause of a parser's message, without its advice to programmers and its picture of the source. */
function firstClause(message: string): string {
  const clause = (message.split(/\n|;/)[0] ?? message).replace(/ at line \d+, column \d+:?$/, '');
  return clause.length > longestClause ? `${clause.slice(0, longestClause)}...` : clause;
}

function parse(text: string, file: string, lines: LineCounter) {
  try {
    return parseDocument(text, { lineCounter: lines, uniqueKeys: true, stringKeys: true, prettyErrors: true });
  } catch (error) {
    // Nesting deeper than the parser's stack ends here.
    throw malformed(file, firstClause(reasonOf(error)), 'write it as plain YAML');
  }
}

/**
 * Reads a configuration file.
 *
 * @param text its contents
 * @param file its name, for messages
 * @param name what to call the layer: `preset vit-s`, or the file
 * @returns its keys, each with the line it stands in
 * @throws SopError (78) naming file and line: malformed YAML, a key given twice, aliases, something that is no mapping
 */
export function yamlLayer(text: string, file: string, name = file): Layer {
  if (text.length > longestFile) throw malformed(file, `${text.length} characters`, 'give a configuration file');
  const lines = new LineCounter();
  const document = parse(text, file, lines);
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem !== undefined) {
    const line = lines.linePos(problem.pos[0]).line;
    if (problem.code === 'DUPLICATE_KEY') {
      const key = text.slice(problem.pos[0]).match(/^[\w.-]+/)?.[0] ?? 'a key';
      throw malformed(`${file}:${line}`, `${key} is given twice`, 'keep one of them');
    }
    throw malformed(`${file}:${line}`, firstClause(problem.message), 'correct the YAML');
  }
  const settings = new Map<string, Setting>();
  const place = (node: Node | null | undefined) => {
    const offset = node?.range?.[0];
    return offset === undefined ? file : `${file}:${lines.linePos(offset).line}`;
  };

  const read = (pair: Pair<unknown, unknown>, prefix: string): void => {
    const keyNode = pair.key as Node;
    const where = place(keyNode);
    if (!isScalar(keyNode) || typeof keyNode.value !== 'string') {
      throw malformed(where, 'a key is not a plain word', 'write section: { key: value }');
    }
    const key = prefix === '' ? keyNode.value : `${prefix}.${keyNode.value}`;
    const value = pair.value as Node | null;
    if (sections.has(key)) {
      // `model:` with everything below it commented out is an empty section.
      if (value === null || (isScalar(value) && value.value === null)) return;
      if (!isMap(value)) throw malformed(where, `expected keys below ${key}, got a value`, `write ${key}: { ... }`);
      for (const item of value.items) if (isPair(item)) read(item, key);
      return;
    }
    if (settings.has(key)) throw malformed(where, `${key} is given twice`, 'keep one of them');
    let plain: unknown;
    try {
      plain = value === null ? null : value.toJS(document, { maxAliasCount: 0 });
    } catch (error) {
      throw malformed(where, firstClause(reasonOf(error)), 'write the value itself');
    }
    settings.set(key, { value: plain, where });
  };

  const root = document.contents;
  if (root === null || (isScalar(root) && root.value === null)) return { name, origin: 'file', settings };
  if (!isMap(root)) throw malformed(place(root), 'expected sections such as model: { ... }', 'write keys and values');
  for (const item of root.items) if (isPair(item)) read(item, '');
  return { name, origin: 'file', settings };
}

/**
 * A configuration as YAML that reads back as the same configuration; keys in the order of the schema.
 *
 * @param head lines of the comment at the top, without `#`
 */
export function formatConfig(config: Config, head: readonly string[] = []): string {
  const comment = head.map((line) => `# ${line}\n`).join('');
  const tree = nestKeys(flattenConfig(config));
  const blocks = Object.entries(tree).map(([name, section]) => {
    const leaves = Object.entries(section as Record<string, unknown>).map(([key, value]) => {
      // A short list or a memory on one line: the whole configuration then fits on a page.
      const text = stringify(value, { collectionStyle: 'flow', lineWidth: 0, flowCollectionPadding: false }).trim();
      return `  ${key}: ${text}\n`;
    });
    return `${name}:\n${leaves.join('')}`;
  });
  return comment + blocks.join('');
}
