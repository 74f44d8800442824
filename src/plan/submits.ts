/**
 * Commands in their order, in as few submits as can be: one of several dispatches does no more estimated work than `most`,
 * what a dispatch may do (drivers of GPUs end what seems to hang). What depends on the device counts with all that it may be.
 */
export function splitSubmits<C extends { readonly launch: { readonly flops: number } }>(
  commands: readonly C[],
  most: number,
): C[][] {
  const submits: C[][] = [];
  let work = Number.POSITIVE_INFINITY;
  for (const command of commands) {
    work += command.launch.flops;
    if (work > most) {
      submits.push([]);
      work = command.launch.flops;
    }
    submits.at(-1)?.push(command);
  }
  return submits;
}
