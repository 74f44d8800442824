import { type Pass, type Span, timePasses, timeTogether } from '../gpu/profiler.js';
import type { Node } from '../graph/graph.js';
import type { Command } from './compile.js';
import { dispatchAll, type Replay } from './replay.js';
import { splitSubmits } from './submits.js';

/** Times of a compiled step. Beside `Replay`, not in it: pages that only train do not load it. */

/**
 * Runs one step like `Replay.run`, timing every dispatch: its time on the device, in the order of the plan.
 * @param progress dispatches that are timed, and all; what it throws ends the step where it is
 */
export async function timeStep(replay: Replay, progress?: (done: number, total: number) => void): Promise<Span[]> {
  const { compiled, submits, watchdog } = replay;
  replay.writeScalars();
  const passes = submits.map((commands) => commands.map((command) => passOf([command])));
  const total = compiled.commands.length;
  return timePasses(compiled.gpu, passes, watchdog, (done) => progress?.(done, total));
}

/**
 * Runs the dispatches of some nodes `repeats` times on what the buffers hold, apart from the rest of the step.
 * @returns milliseconds in all
 */
export async function timeNodes(replay: Replay, ofNode: (node: Node) => boolean, repeats: number): Promise<number> {
  const { compiled, watchdog } = replay;
  const { gpu } = compiled;
  replay.writeScalars();
  const commands = compiled.commands.filter(({ launch }) => ofNode(launch.node));
  const all = Array.from({ length: repeats }, () => commands).flat();
  return timeTogether(gpu, splitSubmits(all, gpu.target.maxDispatchFlops).map(passOf), watchdog);
}

const passOf =
  (commands: readonly Command[]): Pass =>
  (pass) =>
    dispatchAll(pass, commands);
