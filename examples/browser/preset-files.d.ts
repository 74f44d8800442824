/** Made by examples/bundle.ts of presets/*.yaml: dotted keys by the preset's name. */
declare module 'presets:all' {
  export const presets: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}
