declare module 'wgsl-preprocessor/wgsl-preprocessor.js' {
  /** Template tag: `#if ${condition}`, `#elif ${condition}`, `#else`, `#endif` around WGSL text. */
  export function wgsl(strings: TemplateStringsArray, ...values: unknown[]): string;
}
