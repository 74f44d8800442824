import { wgsl } from './kernel.js';

/**
 * `nonfinite(bits)`: whether a number, read as u32, is infinite or NaN. Comparisons of floats cannot tell: compilers fold
 * `x != x` and `x - x`, and `max`, `min` and `log` hide NaN on some adapters.
 */
export const FINITE = wgsl`
const EXPONENT = 0x7f800000u;
const NAN_BITS = 0x7fc00000u;
fn nonfinite(bits: u32) -> bool { return (bits & EXPONENT) == EXPONENT; }
fn nonfinite4(bits: vec4<u32>) -> bool { return any((bits & vec4<u32>(EXPONENT)) == vec4<u32>(EXPONENT)); }
`;
