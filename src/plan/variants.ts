import type { Attribute, Attributes, Op, OpCall } from '../graph/op.js';

/** What one call of an op is, apart from the adapter: its name, the shapes of its inputs (`h`: in f16) and its attributes. */
export function callKey<A extends Attributes>(op: Op<A>, { inputs, attrs }: OpCall<A>): string {
  const shapes = inputs.map(({ shape, dtype }) => shape.join('x') + (dtype === 'f16' ? 'h' : ''));
  const settings = Object.entries(attrs).map(([name, value]) => `${name}=${show(value)}`);
  return [op.name, ...shapes, ...settings].join(' ');
}

/** A scalar by its name: its slot may differ from graph to graph. */
function show(value: Attribute): string {
  if (typeof value !== 'object') return String(value);
  if (Array.isArray(value)) return `[${value.map(show).join()}]`;
  if ('slot' in value) return String(value.name);
  return `{${Object.entries(value).map(([name, part]) => `${name}:${show(part)}`)}}`;
}

/** The call with the variant that was tuned for it, else the built-in one; without any where the op has but one way. */
export function withVariant<A extends Attributes>(op: Op<A>, call: OpCall<A>): OpCall<A> {
  const names = op.variants?.(call) ?? [];
  const tuned = names.length > 1 ? call.target.tuned?.get(callKey(op, call)) : undefined;
  const variant = tuned !== undefined && names.includes(tuned) ? tuned : names[0];
  return variant === undefined ? call : { ...call, variant };
}
