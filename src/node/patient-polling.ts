/** Milliseconds between two looks for results. */
const PAUSE = 1;

const NATIVE = /\{\s*\[native code\]\s*\}$/;

let patient = false;

/**
 * While a promise of Dawn's is pending it looks for results in every turn of the event loop, and so keeps a whole core busy:
 * on a machine whose GPU is a CPU of two cores, a third of the work. It asks for these turns with the global `setImmediate`;
 * from here on it gets a timer. Calls by others, whose callbacks are written in JavaScript, go on as before.
 */
export function pollPatiently(): void {
  if (patient) return;
  patient = true;
  const { setImmediate: immediately } = globalThis;
  const schedule = (callback: (...values: unknown[]) => void, ...values: unknown[]): unknown =>
    NATIVE.test(Function.prototype.toString.call(callback))
      ? setTimeout(callback, PAUSE, ...values)
      : immediately(callback, ...values);
  globalThis.setImmediate = Object.assign(schedule, immediately) as typeof setImmediate;
}
