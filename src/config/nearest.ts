/**
 * Edit distance with transposed neighbours (Damerau-Levenshtein, optimal string alignment).
 *
 * @returns insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`
 */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) cost = Math.min(cost, beforeLast[j - 2]! + 1);
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}

/** No name of ours is nearly as long: what is longer is a paste, and comparing it would cost time for nothing. */
const LONGEST_NAME = 64;

/**
 * The candidate that a misspelt name most likely means.
 * For dotted keys the last part counts too, so that `width` finds `model.width`.
 *
 * @returns the nearest candidate, or undefined where even that one is too different to be meant
 */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  if (name.length > LONGEST_NAME) return undefined;
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  const wanted = name.toLowerCase();
  for (const candidate of candidates) {
    const tail = candidate.slice(candidate.lastIndexOf('.') + 1);
    const whole = editDistance(wanted, candidate.toLowerCase());
    const distance = wanted.includes('.') ? whole : Math.min(whole, editDistance(wanted, tail) + 0.5);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return bestDistance < wanted.length && bestDistance <= Math.max(2, wanted.length * 0.4) ? best : undefined;
}
