/** Open flags and modes as node:fs takes them. */
import { invalidArgument } from './api-errors.ts';
import { O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_SYNC, O_TRUNC, O_WRONLY } from './handles.ts';

const FLAGS: Readonly<Record<string, number>> = {
  r: O_RDONLY,
  rs: O_RDONLY | O_SYNC,
  'r+': O_RDWR,
  'rs+': O_RDWR | O_SYNC,
  w: O_WRONLY | O_CREAT | O_TRUNC,
  wx: O_WRONLY | O_CREAT | O_TRUNC | O_EXCL,
  'w+': O_RDWR | O_CREAT | O_TRUNC,
  'wx+': O_RDWR | O_CREAT | O_TRUNC | O_EXCL,
  a: O_WRONLY | O_CREAT | O_APPEND,
  as: O_WRONLY | O_CREAT | O_APPEND | O_SYNC,
  ax: O_WRONLY | O_CREAT | O_APPEND | O_EXCL,
  'a+': O_RDWR | O_CREAT | O_APPEND,
  'as+': O_RDWR | O_CREAT | O_APPEND | O_SYNC,
  'ax+': O_RDWR | O_CREAT | O_APPEND | O_EXCL,
};

export function flagsOf(flags: string | number): number {
  if (typeof flags === 'number') return flags;
  const found = FLAGS[flags] ?? FLAGS[[...flags].sort().reverse().join('')];
  if (found === undefined) throw invalidArgument('flags', `is invalid. Received '${flags}'`);
  return found;
}

export function modeOf(mode: number | string): number {
  const value = typeof mode === 'number' ? mode : /^[0-7]+$/.test(mode) ? Number.parseInt(mode, 8) : NaN;
  if (!Number.isInteger(value) || value < 0)
    throw invalidArgument('mode', `must be an octal number. Received '${mode}'`);
  return value & 0o7777;
}
