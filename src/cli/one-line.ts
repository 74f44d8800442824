/** One line, whatever a text holds: no line breaks, no escape sequences of a hostile file name. */
export function oneLine(text: string): string {
  return text.replace(/[\s\p{Cc}]+/gu, ' ').trim();
}
