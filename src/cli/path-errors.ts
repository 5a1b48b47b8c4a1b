/** Errors of the file operations in words for people: about the path that they gave, with what to do next. */
import { FsError } from '../errors.ts';
import type { Errno } from '../errors.ts';
import { shownName } from './file-names.ts';

interface Words {
  readonly text: (path: string) => string;
  readonly remedy: string;
}

const WORDS: Partial<Record<Errno, Words>> = {
  ENOENT: {
    text: (path) => `there is no ${path} in the cluster`,
    remedy: 'List what there is with `tatami ls DIRECTORY`; directories are made on a mount.',
  },
  ENOTDIR: {
    text: (path) => `a part of ${path} is a file, not a directory`,
    remedy: 'List what there is with `tatami ls DIRECTORY`.',
  },
  EISDIR: {
    text: (path) => `${path} is a directory`,
    remedy: 'Give a file in it (`tatami ls` lists them); whole directories are copied on a mount.',
  },
  EINVAL: { text: (path) => `${path} is not a file that can be copied`, remedy: '`tatami stat` says what it is.' },
  ENOSPC: { text: (path) => `no space for ${path}`, remedy: 'Delete files and run `tatami gc`, or add a node.' },
  ENAMETOOLONG: { text: (path) => `a name in ${path} is too long`, remedy: 'A name has at most 255 bytes.' },
  ELOOP: {
    text: (path) => `${path} leads through too many symbolic links`,
    remedy: '`tatami stat` shows their targets.',
  },
};

/** Runs an operation on `path`; its errno comes out as an FsError about that path, not about names used on the way. */
export async function atPath<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const code = (error as { code?: string }).code as Errno;
    const words = WORDS[code];
    // Told already, by a step within this one.
    if (words === undefined || (error instanceof FsError && error.remedy !== undefined)) throw error;
    throw new FsError(code, words.text(shownName(path)), { cause: error, remedy: words.remedy });
  }
}
