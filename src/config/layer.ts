/** One value given for a key, and the place that gave it. */
export interface Setting {
  readonly value: unknown;
  /** `my.yaml:12`, `--set` or `--batch-size`. */
  readonly where: string;
}

/** Values from one source. Later layers win over earlier ones. */
export interface Layer {
  /** For people: `preset vit-s`, `my.yaml`, `command line`. */
  readonly name: string;
  /** Decides the exit code of what is wrong in it: 78 for a file, 64 for the command line. */
  readonly origin: 'file' | 'command line';
  /** By dotted key. */
  readonly settings: ReadonlyMap<string, Setting>;
}
