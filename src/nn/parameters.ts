import type { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';

/**
 * How a parameter starts. `linear`: truncated normal, cut at +-2 (absolute, as torch.nn.init.trunc_normal_);
 * `convolution`: PyTorch's default, uniform in +-1 / sqrt(inputs).
 */
export type Initial =
  | { readonly kind: 'zeros' }
  | { readonly kind: 'ones' }
  | { readonly kind: 'linear'; readonly std: number }
  | { readonly kind: 'convolution'; readonly inputs: number };

/** A parameter as the outside knows it: timm's name and shape. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  /** Shape in the graph, of as many elements: weights are matrices [outputs, inputs], tokens are rows. */
  readonly graphShape: readonly number[];
  readonly initial: Initial;
  /** No weight decay on biases and other tensors that are 1-D in PyTorch. */
  readonly decay: boolean;
}

/** The tensors of a network by timm's name. */
export type Parameters = ReadonlyMap<string, Tensor>;

/** Standard deviation of initial weights: a number, or 1 / sqrt(inputs) (`model.init_std: fan-in`, for small widths). */
export type InitStd = number | 'fan-in';

/** Start of a matrix of so many inputs. */
export function linearInitial(initStd: InitStd, inputs: number): Initial {
  return { kind: 'linear', std: initStd === 'fan-in' ? 1 / Math.sqrt(inputs) : initStd };
}

export function linearSpecs(name: string, inputs: number, outputs: number, initStd: InitStd): ParameterSpec[] {
  return [
    {
      name: `${name}.weight`,
      shape: [outputs, inputs],
      graphShape: [outputs, inputs],
      initial: linearInitial(initStd, inputs),
      decay: true,
    },
    { name: `${name}.bias`, shape: [outputs], graphShape: [outputs], initial: { kind: 'zeros' }, decay: false },
  ];
}

export function normSpecs(name: string, width: number): ParameterSpec[] {
  return [
    { name: `${name}.weight`, shape: [width], graphShape: [width], initial: { kind: 'ones' }, decay: false },
    { name: `${name}.bias`, shape: [width], graphShape: [width], initial: { kind: 'zeros' }, decay: false },
  ];
}

/** Makes the tensors of a network, labelled `<network>.<name>`, trained or kept as state. */
export function declare(
  graph: Graph,
  network: string,
  specs: readonly ParameterSpec[],
  storage: 'parameter' | 'state',
): Parameters {
  return new Map(specs.map(({ name, graphShape }) => [name, graph[storage](`${network}.${name}`, graphShape)]));
}

/** The tensor of a name. @throws RangeError for a name that the network does not have */
export function get(parameters: Parameters, name: string): Tensor {
  const tensor = parameters.get(name);
  if (!tensor) throw new RangeError(`no parameter ${name}`);
  return tensor;
}
