import { readdirSync, readFileSync } from 'node:fs';
import { decodeSafetensors, type SafetensorsFile } from '../src/data/safetensors.js';
import { projectFile } from './project.js';

/** Inputs and outputs of the PyTorch implementation in float64 (fixtures/make_fixtures.py). */
const folder = projectFile('kernels-test/fixtures/');
const ENDING = '.safetensors';

/** Names of the safetensors files that match, without their ending. */
export function fixturesNamed(pattern: RegExp): string[] {
  const files = readdirSync(folder).filter((file) => file.endsWith(ENDING));
  return files.map((file) => file.slice(0, -ENDING.length)).filter((name) => pattern.test(name));
}

export function fixture(name: string): SafetensorsFile {
  return decodeSafetensors(readFileSync(new URL(name + ENDING, folder)), name);
}

/** Numbers of one of its tensors. @throws Error where there is none of that name */
export function fixtureValues({ tensors }: SafetensorsFile, name: string): Float64Array {
  const found = tensors.get(name);
  if (!found) throw new Error(`the fixture has no ${name}`);
  return Float64Array.from(found.data as ArrayLike<number>);
}
