/** Signals that ask a run to stop, with the exit code that says so. */
export const stops = { SIGINT: 130, SIGTERM: 143 } as const;
type StopSignal = keyof typeof stops;

/** Whether someone asked the command to stop, or to save. */
export interface StopRequest {
  /** The first signal that came, or null. A loop asks between steps, then saves and returns `exitCode`. */
  readonly signal: StopSignal | null;
  /** 130 or 143 after a signal, else null. */
  readonly exitCode: 130 | 143 | null;
  /** Until `begin` the first signal leaves at once. What is said then: that nothing is lost. */
  onLeave(say: (signal: StopSignal) => void): void;
  /**
   * From now on something has to be ended in good order, files or the work of a device: a process that leaves while its
   * device is at work crashes. A later call replaces the handler.
   */
  begin(onRequest: (signal: StopSignal) => void): void;
  /** True once after each SIGUSR1: the run saves and goes on. */
  takeSave(): boolean;
  /** Gives the signals back. Call it when the command has ended. */
  dispose(): void;
}

/** Thrown where a signal ends a command that has nothing to save, or a run before its first step. */
export class Interrupted extends Error {}

/**
 * From now on SIGINT and SIGTERM no longer kill the process: before `begin` they end it in good order, afterwards they
 * are requests to stop, a run after its step; a second SIGINT leaves at once, with the last checkpoint as it is. SIGUSR1
 * is a request to save, as batch systems send it before they take the machine away (Node would open a debugger). SIGHUP is
 * survived: a run goes on when its terminal is closed.
 *
 * @param leave ends the process: at a signal before `begin`, and at a second SIGINT
 */
export function watchSignals(leave: (exitCode: number) => void = (code) => process.exit(code)): StopRequest {
  let onRequest: ((signal: StopSignal) => void) | null = null;
  let onLeave: ((signal: StopSignal) => void) | null = null;
  let signal: StopSignal | null = null;
  let save = false;
  const request = (name: StopSignal) => () => {
    if (onRequest === null) {
      onLeave?.(name);
      leave(stops[name]);
    } else if (signal !== null) {
      if (name === 'SIGINT') leave(stops.SIGINT);
    } else {
      signal = name;
      onRequest(name);
    }
  };
  const handlers = {
    SIGINT: request('SIGINT'),
    SIGTERM: request('SIGTERM'),
    SIGHUP: () => undefined,
    SIGUSR1: () => {
      save = true;
    },
  };
  for (const [name, handler] of Object.entries(handlers)) process.on(name, handler);
  return {
    get signal() {
      return signal;
    },
    get exitCode() {
      return signal === null ? null : stops[signal];
    },
    onLeave(say) {
      onLeave = say;
    },
    begin(handler) {
      onRequest = handler;
    },
    takeSave() {
      const wanted = save;
      save = false;
      return wanted;
    },
    dispose() {
      for (const [name, handler] of Object.entries(handlers)) process.removeListener(name, handler);
    },
  };
}
