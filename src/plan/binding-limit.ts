import { ExitCode, SopError } from '../errors.js';
import type { Target } from '../gpu/target.js';
import { showShape } from '../graph/tensor.js';

/** Bytes of the largest tensor that an adapter can bind. */
export function bindingLimit({
  maxBindingBytes,
  maxBufferBytes,
}: Pick<Target, 'maxBindingBytes' | 'maxBufferBytes'>): number {
  return Math.min(maxBindingBytes, maxBufferBytes);
}

/** A tensor that no binding of the adapter holds. */
export class BindingError extends SopError {
  constructor(
    /** The largest one; `divisible` where it may be smaller if fewer images went through at a time. */
    readonly tensor: {
      readonly label: string;
      readonly bytes: number;
      readonly shape: readonly number[] | undefined;
      readonly divisible: boolean;
    },
    /** Bytes that one binding holds. */
    readonly limit: number,
    target: Target,
  ) {
    super(ExitCode.unavailable, {
      what: 'a tensor exceeds a limit of the adapter',
      where: tensor.label,
      why: `it needs ${mebibytes(tensor.bytes)} MiB in one binding (${tensor.bytes} bytes${tensor.shape ? `, shape ${showShape(tensor.shape)}` : ''}), ${target.name} allows ${mebibytes(limit)} MiB`,
      fix: adviceFor(tensor.label),
    });
  }
}

/** The keys that make a tensor as large as it is. */
function adviceFor(label: string): string {
  const [, memory] = /^memory\.(\w+)$/.exec(label) ?? [];
  if (memory) return `lower it by --set sop.${memory}.memory=N`;
  if (/^student\.head\./.test(label)) return 'lower it by --set head.hidden=N and head.out=N';
  if (/^student\./.test(label)) return 'lower it by --set model.width=N';
  return 'lower --batch-size, or the memory and anchor counts of sop.*';
}

export function mebibytes(count: number): string {
  return (count / 2 ** 20).toFixed(1);
}
