/** Signals that ask a run to stop, with the exit code that says so. */
const stops = { SIGINT: 130, SIGTERM: 143 } as const;
type StopSignal = keyof typeof stops;

/** Whether someone asked the run to stop, or to save. */
export interface StopRequest {
  /** The first signal that came, or null. A loop asks between steps, then saves and returns `exitCode`. */
  readonly signal: StopSignal | null;
  /** 130 or 143 after a signal, else null. */
  readonly exitCode: 130 | 143 | null;
  /**
   * From now on something has to be ended in good order, files or the work of a device: until this is called the first
   * signal leaves at once. A later call replaces the handler.
   */
  begin(onRequest: (signal: StopSignal) => void): void;
  /** True once after each SIGUSR1: the run saves and goes on. */
  takeSave(): boolean;
  /** Gives the signals back. Call it when the run has ended. */
  dispose(): void;
}

/** Thrown where a signal ends a run before its first step. */
export class Interrupted extends Error {}

export interface SignalOptions {
  /** Called when a signal ends a run before it began: to say that nothing is lost. */
  readonly onEarly?: (signal: StopSignal) => void;
  /** Ends the process: at a signal before the run began, and at a second SIGINT. */
  readonly leave?: (exitCode: number) => void;
}

/**
 * From now on SIGINT and SIGTERM no longer kill the process: before `begin` they end it in good order, afterwards they
 * are requests to stop after the step; a second SIGINT leaves at once, with the last checkpoint as it is. SIGUSR1 is a
 * request to save, as batch systems send it before they take the machine away (Node would open a debugger). SIGHUP is
 * survived: a run goes on when its terminal is closed.
 */
export function watchSignals({ onEarly, leave = (code) => process.exit(code) }: SignalOptions = {}): StopRequest {
  let onRequest: ((signal: StopSignal) => void) | null = null;
  let signal: StopSignal | null = null;
  let save = false;
  const request = (name: StopSignal) => () => {
    if (onRequest === null) {
      onEarly?.(name);
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
