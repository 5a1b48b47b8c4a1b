/** What to type to run this very program again: `tatami` is on the PATH only where the package is installed so. */
import { realpathSync } from 'node:fs';
import { delimiter, join, relative } from 'node:path';
import { MAIN } from './places.ts';

export function ownCommand(main = MAIN, path = process.env['PATH'] ?? '', cwd = process.cwd()): string {
  const own = realOf(main);
  const first = path
    .split(delimiter)
    .map((directory) => realOf(join(directory, 'tatami')))
    .find((found) => found !== undefined);
  if (first !== undefined && first === own) return 'tatami';
  const below = relative(cwd, main);
  return `node ${shellWord(below.length < main.length ? below : main)}`;
}

function realOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

/** Quoted only where a shell needs it. */
export function shellWord(text: string): string {
  return /^[\w./:@%+,=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
