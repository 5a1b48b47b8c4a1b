/** Directories with all that are missing above them. */
import { promises as fsp } from 'node:fs';
import { dirname, resolve } from 'node:path';

/**
 * One level at a time: Node's own recursive mkdir (20 and 22) spins for ever where a directory exists and takes no
 * others, as in /proc. Resolves with the uppermost directory that it made, as Node's.
 */
export async function makeDirectory(path: string, mode?: number): Promise<string | undefined> {
  const wanted = resolve(path);
  const missing: string[] = [];
  for (let at = wanted; !(await isDirectory(at)); at = dirname(at)) missing.unshift(at);
  for (const directory of missing) await makeOne(directory, mode);
  return missing[0];
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await fsp.stat(path)).isDirectory();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

async function makeOne(path: string, mode?: number): Promise<void> {
  try {
    await fsp.mkdir(path, { mode });
  } catch (error) {
    // Somebody else was quicker.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !(await isDirectory(path))) throw error;
  }
}
