/** Exit codes of sysexits.h, as far as this program uses them. */
export const ExitCode = {
  usage: 64,
  data: 65,
  noInput: 66,
  unavailable: 69,
  internal: 70,
  cannotCreate: 73,
  io: 74,
  tryAgain: 75,
  config: 78,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** The four parts of every message that a user sees. */
export interface Complaint {
  /** What is wrong, in a few words. */
  readonly what: string;
  /** File, flag, tensor or shape it is wrong in. */
  readonly where: string;
  /** Why it is wrong: expected and got. */
  readonly why: string;
  /** What to do next. */
  readonly fix: string;
}

/** An error with a message for people on one line, and the process exit code that goes with it. */
export class SopError extends Error {
  override readonly name = 'SopError';
  readonly exitCode: ExitCode;
  readonly complaint: Complaint;

  constructor(exitCode: ExitCode, complaint: Complaint, options?: ErrorOptions) {
    const { what, where, why, fix } = complaint;
    super(`${what} (${where}): ${why}; ${fix}`.replace(/\s+/g, ' '), options);
    this.exitCode = exitCode;
    this.complaint = complaint;
  }
}

/** What is used after it was freed or closed: a mistake that must not cost the device. */
export function usedAfter(what: string, call: 'destroy' | 'close'): SopError {
  const why = 'it is gone';
  return new SopError(ExitCode.usage, { what: `${what} is used after ${call}`, where: call, why, fix: 'make another' });
}

/** What anything that was thrown says. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
