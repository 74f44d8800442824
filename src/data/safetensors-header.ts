import { ExitCode, SopError } from '../errors.js';
import { type Dtype, dtypes, isDtype, itemSize, printable } from './dtype.js';

/** Where a tensor lies: `begin` and `end` are bytes from `dataStart` of its header. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface Header {
  /** In the order of their bytes in the file. */
  readonly entries: readonly TensorEntry[];
  readonly metadata: ReadonlyMap<string, string>;
  /** Offset of the first byte after the header. */
  readonly dataStart: number;
}

/** Our own largest header is some 200 kB; the bound keeps a hostile one from costing memory. */
const maxHeaderBytes = 8 * 2 ** 20;
const maxDimensions = 32;

/** A complaint about a malformed file: exit 65. */
export function malformed(where: string, why: string, fix = 'get or write the file again'): SopError {
  return new SopError(ExitCode.data, { what: 'malformed safetensors file', where, why, fix });
}

/**
 * Length of the header's text, from the first bytes (at least 9 where the file has them) of a file of `fileLength` bytes.
 *
 * @throws SopError 65, for pickle and zip files with the way to convert them.
 */
export function headerLength(start: Uint8Array, fileLength: number, where: string): number {
  if (fileLength < 10 || start.length < 9) {
    throw malformed(where, `expected 8 bytes of length and a header, got a file of ${fileLength} bytes`);
  }
  // 0x80 0x02 may also begin a valid length: a header always starts with a brace, so look there first.
  if (start[8] !== 0x7b) {
    const pickle = start[0] === 0x80 && start[1]! >= 2 && start[1]! <= 5;
    const zip = start[0] === 0x50 && start[1] === 0x4b && start[2] === 3 && start[3] === 4;
    if (pickle || zip) {
      const kind = pickle ? 'a Python pickle' : 'a zip archive (as torch.save writes)';
      throw malformed(
        where,
        `it is ${kind}, which can run code when it is read and is never opened here`,
        'convert it in Python: safetensors.torch.save_file(torch.load(FILE, weights_only=True), "weights.safetensors")',
      );
    }
  }
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const claimed = view.getBigUint64(0, true);
  const length = Number(claimed);
  if (length > maxHeaderBytes) {
    throw malformed(where, `its header claims ${claimed} bytes, more than the ${maxHeaderBytes} allowed`);
  }
  if (8 + length > fileLength) {
    throw malformed(where, `its header claims ${length} bytes, but the file ends after ${fileLength}`);
  }
  if (start[8] !== 0x7b) throw malformed(where, 'its header does not start with "{"');
  return length;
}

/**
 * Parses and checks the header at the start of `bytes` (the whole file, or its first `8 + headerLength` bytes).
 * Every byte of the data must belong to exactly one tensor, as the format demands.
 *
 * @throws SopError 65 naming file and tensor.
 */
export function parseHeader(bytes: Uint8Array, fileLength: number, where: string): Header {
  const length = headerLength(bytes, fileLength, where);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(8, 8 + length));
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw malformed(where, 'its header is not UTF-8');
  }
  const { entries, metadata } = readObjects(new Scanner(text, where), where);
  const dataStart = 8 + length;
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let end = 0;
  for (const entry of entries) {
    if (entry.begin !== end) {
      const why = entry.begin < end ? 'overlaps the tensor before it' : `leaves a hole of ${entry.begin - end} bytes`;
      throw malformed(where, `tensor ${printable(entry.name)} ${why}`);
    }
    end = entry.end;
  }
  if (dataStart + end !== fileLength) {
    const rest = fileLength - dataStart;
    throw malformed(where, `its tensors take ${end} bytes, but ${rest} follow the header`);
  }
  return { entries, metadata, dataStart };
}

function readObjects(scan: Scanner, where: string) {
  const entries: TensorEntry[] = [];
  let metadata: ReadonlyMap<string, string> = new Map();
  scan.object((name) => {
    if (name === '__metadata__') {
      const pairs = new Map<string, string>();
      scan.object((key) => pairs.set(key, scan.string()));
      metadata = pairs;
    } else {
      entries.push(readEntry(scan, name, where));
    }
  });
  scan.end();
  return { entries, metadata };
}

function readEntry(scan: Scanner, name: string, where: string): TensorEntry {
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  const label = `tensor ${printable(name)}`;
  scan.object((key) => {
    if (key === 'dtype') dtype = scan.string();
    else if (key === 'shape') shape = scan.integers(maxDimensions, `shape of ${label}`);
    else if (key === 'data_offsets') offsets = scan.integers(2, `data_offsets of ${label}`);
    else throw malformed(where, `${label} has the unknown key ${printable(key)}`);
  });
  if (dtype === undefined || shape === undefined || offsets?.length !== 2) {
    throw malformed(where, `${label} lacks dtype, shape or two data_offsets`);
  }
  if (!isDtype(dtype)) {
    throw malformed(where, `${label} has dtype ${printable(dtype)}, known are ${dtypes.join(', ')}`);
  }
  let size = itemSize(dtype);
  for (const extent of shape) {
    size *= extent;
    if (!Number.isSafeInteger(size)) throw malformed(where, `${label} has a shape whose product overflows`);
  }
  const [begin, end] = offsets as [number, number];
  if (end - begin !== size) {
    throw malformed(where, `${label}, ${dtype} [${shape}], needs ${size} bytes, its data_offsets give ${end - begin}`);
  }
  return { name, dtype, shape, begin, end };
}

/**
 * As much JSON as a header may hold. `JSON.parse` would keep the last of two equal keys, give `__proto__` a meaning and
 * round numbers beyond 2^53 without a word, and each of these lets two readers see two different files.
 */
class Scanner {
  private at = 0;

  constructor(
    private readonly text: string,
    private readonly where: string,
  ) {}

  object(member: (key: string) => void): void {
    const keys = new Set<string>();
    this.expect('{');
    if (this.take('}')) return;
    do {
      const key = this.string();
      if (keys.has(key)) throw malformed(this.where, `the name ${printable(key)} occurs twice`);
      if (key === '__proto__') throw malformed(this.where, 'the name "__proto__" is not allowed');
      keys.add(key);
      this.expect(':');
      member(key);
    } while (this.take(','));
    this.expect('}');
  }

  integers(most: number, what: string): number[] {
    const values: number[] = [];
    this.expect('[');
    if (this.take(']')) return values;
    do {
      if (values.length === most) throw malformed(this.where, `${what} has more than ${most} numbers`);
      values.push(this.integer(what));
    } while (this.take(','));
    this.expect(']');
    return values;
  }

  string(): string {
    this.expect('"');
    const start = this.at;
    for (; this.at < this.text.length; this.at++) {
      const code = this.text.charCodeAt(this.at);
      if (code === 0x5c) this.at++;
      else if (code === 0x22) return this.unescape(this.text.slice(start - 1, ++this.at));
    }
    throw malformed(this.where, 'its header ends inside a string');
  }

  end(): void {
    this.skip();
    if (this.at < this.text.length) throw malformed(this.where, `its header goes on after "}" (character ${this.at})`);
  }

  private integer(what: string): number {
    this.skip();
    const start = this.at;
    while (this.at < this.text.length && '+-.0123456789eE'.includes(this.text[this.at]!)) this.at++;
    const literal = this.text.slice(start, this.at);
    const value = Number(literal);
    if (literal.length > 16 || !/^(0|[1-9]\d*)$/.test(literal) || !Number.isSafeInteger(value)) {
      throw malformed(this.where, `${what}: expected a whole number from 0 to 2^53 - 1, got ${printable(literal)}`);
    }
    return value;
  }

  private unescape(quoted: string): string {
    try {
      return JSON.parse(quoted) as string;
    } catch (cause) {
      if (!(cause instanceof SyntaxError)) throw cause;
      throw malformed(this.where, `its header has the malformed string ${printable(quoted)}`);
    }
  }

  private skip(): void {
    while (this.at < this.text.length && ' \t\r\n'.includes(this.text[this.at]!)) this.at++;
  }

  private take(character: string): boolean {
    this.skip();
    if (this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  private expect(character: string): void {
    if (this.take(character)) return;
    const got = this.at < this.text.length ? printable(this.text[this.at]!) : 'the end';
    throw malformed(this.where, `its header is not valid: expected '${character}' at character ${this.at}, got ${got}`);
  }
}
