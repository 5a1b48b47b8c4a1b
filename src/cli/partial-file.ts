/** Names for files that are not whole yet, beside the ones that they become. */
import { basename } from 'node:path';
import { NAME_MAX_BYTES } from '../limits.ts';

/** Process ids on Linux have at most so many digits. */
const PID_DIGITS = 7;

/**
 * The beginning of such names, before the process id: the name and the suffix. Of a long name only so much as leaves room for
 * both; one that is too long by itself stays so, and is refused as such.
 */
export function partialPrefix(name: string, suffix: string): string {
  if (Buffer.byteLength(name) > NAME_MAX_BYTES) return `${name}${suffix}`;
  const characters = [...name];
  const room = NAME_MAX_BYTES - Buffer.byteLength(suffix) - PID_DIGITS;
  for (let bytes = Buffer.byteLength(name); bytes > room;) bytes -= Buffer.byteLength(characters.pop() ?? '');
  return `${characters.join('')}${suffix}`;
}

export function partialPath(path: string, suffix: string, pid = process.pid): string {
  const name = basename(path);
  return `${path.slice(0, path.length - name.length)}${partialPrefix(name, suffix)}${pid}`;
}
