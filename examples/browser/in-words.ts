import type { SopError } from '../../src/index.js';

/** An error of the engine as sentences. */
export function inWords({ complaint: { what, where, why, fix } }: SopError): string {
  const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
  return `${sentence(what)} (${where}): ${why}. ${sentence(fix)}.`.replace(/\.\.+/g, '.');
}
