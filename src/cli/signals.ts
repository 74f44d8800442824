/** Signals that ask a run to stop, with the exit code that says so. */
const stops = { SIGINT: 130, SIGTERM: 143 } as const;
type StopSignal = keyof typeof stops;

/** Whether someone asked the run to stop. */
export interface StopRequest {
  /** The first signal that came, or null. A loop asks between steps, then saves and returns `exitCode`. */
  readonly signal: StopSignal | null;
  /** 130 or 143 after a signal, else null. */
  readonly exitCode: 130 | 143 | null;
  /** Aborted with the request: ends waits that may be ended. */
  readonly aborted: AbortSignal;
  /** Gives the signals back. Call it when the run has ended. */
  dispose(): void;
}

export interface SignalOptions {
  /** Called once, at the first signal: to say that the step is finished first. */
  readonly onRequest?: (signal: StopSignal) => void;
  /** Called at a second SIGINT; the default leaves at once. */
  readonly leave?: (exitCode: number) => void;
}

/**
 * From now on SIGINT and SIGTERM no longer kill the process but are requests to stop after the step; a second SIGINT
 * leaves at once, with the last checkpoint as it is. SIGHUP is survived: a run goes on when its terminal is closed.
 */
export function watchSignals({ onRequest, leave = (code) => process.exit(code) }: SignalOptions = {}): StopRequest {
  const controller = new AbortController();
  let signal: StopSignal | null = null;
  const request = (name: StopSignal) => () => {
    if (signal !== null) {
      if (name === 'SIGINT') leave(stops.SIGINT);
      return;
    }
    signal = name;
    onRequest?.(name);
    controller.abort();
  };
  const handlers = { SIGINT: request('SIGINT'), SIGTERM: request('SIGTERM'), SIGHUP: () => undefined };
  for (const [name, handler] of Object.entries(handlers)) process.on(name, handler);
  return {
    get signal() {
      return signal;
    },
    get exitCode() {
      return signal === null ? null : stops[signal];
    },
    aborted: controller.signal,
    dispose() {
      for (const [name, handler] of Object.entries(handlers)) process.removeListener(name, handler);
    },
  };
}
