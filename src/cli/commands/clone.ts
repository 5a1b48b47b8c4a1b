import { basename } from 'node:path';
import { FsError } from '../../errors.ts';
import type { CloneError, CloneProgress } from '../../vfs/api.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { shownName } from '../file-names.ts';
import { listenForInterruption } from '../interruption.ts';
import { liveLine } from '../live-line.ts';
import { bytes, note, print, printJson } from '../output.ts';
import { atPath } from '../path-errors.ts';
import { withFileSystem } from '../with-cluster.ts';

/** Copies a file or tree within the cluster; its files name the same blocks. */
export async function clone(
  source: string,
  target: string,
  options: WhereOptions & { readonly json?: boolean },
): Promise<void> {
  const interruption = listenForInterruption();
  const { signal } = interruption;
  await withFileSystem(options, `tatami clone ${source}`, async (fs) => {
    const line = liveLine();
    const startedMs = performance.now();
    try {
      const made = await fs.clone(source, target, {
        signal,
        onProgress: (progress) => line.show(() => `clone ${basename(source)}: ${counted(progress)}`),
      });
      line.end();
      const ms = Math.round(performance.now() - startedMs);
      if (options.json === true) printJson({ ...made, ms });
      else print(`${shownName(target)} ${counted(made)}`);
    } catch (error) {
      line.end();
      const { leftBehind } = error as CloneError;
      if (leftBehind !== undefined) note(`${shownName(leftBehind)} is left behind: remove it on a mount.`);
      throw signal.aborted ? signal.reason : await told(error as CloneError, source, target);
    }
  }).finally(() => interruption.end());
}

function counted({ entryCount, fileCount, bytes: count }: CloneProgress): string {
  const files = `${fileCount} ${fileCount === 1 ? 'file' : 'files'} of ${bytes(count)}`;
  return entryCount === fileCount ? files : `${files}, ${entryCount} entries`;
}

/** In words, about the entry at which it failed. */
async function told(error: CloneError, source: string, target: string): Promise<unknown> {
  if (error.code === 'EEXIST') {
    return new FsError('EEXIST', `there is something at ${shownName(target)} already`, {
      cause: error,
      remedy: 'Give a name that is not there yet.',
    });
  }
  if (error.code === 'EINVAL' && error.dest !== undefined) {
    return new FsError('EINVAL', `${shownName(source)} cannot be cloned into itself`, {
      cause: error,
      remedy: 'Give a target outside of it.',
    });
  }
  return await atPath(error.path ?? source, () => Promise.reject(error)).catch((worded: unknown) => worded);
}
