/** Directories that a user named. */
import { resolve } from 'node:path';
import { makeDirectory } from '../env-node/make-directory.ts';
import { UsageError } from '../errors.ts';

/** Makes it, and what is missing above it. UsageError if that cannot be. */
export async function newDirectory(path: string): Promise<void> {
  try {
    await makeDirectory(path);
  } catch (error) {
    throw new UsageError(`cannot make the directory ${resolve(path)}: ${(error as Error).message}`, {
      cause: error,
      remedy: 'Choose a directory on a disk where this user may write.',
    });
  }
}
