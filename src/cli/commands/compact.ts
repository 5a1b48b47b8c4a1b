import type { CompactProgress } from '../../vfs/api.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { shownName } from '../file-names.ts';
import { listenForInterruption } from '../interruption.ts';
import { liveLine } from '../live-line.ts';
import { bytes, print, printJson } from '../output.ts';
import { atPath } from '../path-errors.ts';
import { withFileSystem } from '../with-cluster.ts';

/** Puts a file, or the files of a tree, together where they were written in small pieces. */
export async function compact(path: string, options: WhereOptions & { readonly json?: boolean }): Promise<void> {
  const interruption = listenForInterruption();
  const { signal } = interruption;
  await withFileSystem(options, `tatami compact ${path}`, async (fs) => {
    const line = liveLine();
    const onProgress = (progress: CompactProgress): void =>
      line.show(() => `compact ${shownName(path)}: ${counted(progress)}`);
    try {
      const done = await atPath(path, () => fs.compact(path, { signal, onProgress }));
      line.end();
      if (options.json === true) printJson(done);
      else print(`${shownName(path)}: ${counted(done)}`);
    } catch (error) {
      line.end();
      throw signal.aborted ? signal.reason : error;
    }
  }).finally(() => interruption.end());
}

function counted({ fileCount, savedCount, writtenBytes, changedCount }: CompactProgress): string {
  const files = `${fileCount} ${fileCount === 1 ? 'file' : 'files'}`;
  const done =
    savedCount === 0 ? 'nothing to put together' : `${savedCount} extents fewer, ${bytes(writtenBytes)} written`;
  const busy = changedCount === 0 ? '' : `; left alone where it was being written: ${changedCount}`;
  return `${files}, ${done}${busy}`;
}
