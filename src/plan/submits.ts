/** Estimated work of a submit of several dispatches, at most: 100 ms at 200 GFLOP/s. Drivers of GPUs end what seems to hang. */
const SUBMIT_FLOPS = 2e10;

/** Commands in their order, in as few submits as that allows; what depends on the device counts with all that it may be. */
export function splitSubmits<C extends { readonly launch: { readonly flops: number } }>(commands: readonly C[]): C[][] {
  const submits: C[][] = [];
  let work = Number.POSITIVE_INFINITY;
  for (const command of commands) {
    work += command.launch.flops;
    if (work > SUBMIT_FLOPS) {
      submits.push([]);
      work = command.launch.flops;
    }
    submits.at(-1)?.push(command);
  }
  return submits;
}
