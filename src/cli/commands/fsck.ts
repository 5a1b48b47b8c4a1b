import type { Ino } from '../../ids.ts';
import { fsck as check } from '../../upkeep/fsck.ts';
import { collectStatus } from '../../upkeep/status.ts';
import type { FileSystem } from '../../vfs/api.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { EXIT } from '../exit-codes.ts';
import { note, print, printJson } from '../output.ts';
import { withFileSystem } from '../with-cluster.ts';

export async function fsck(path: string, options: WhereOptions & { json?: boolean }): Promise<void> {
  await withFileSystem(options, 'tatami fsck', async (fs, client) => {
    const inos = path === '/' ? undefined : await inodesBelow(fs, path);
    let nextNote = 1_000;
    const result = await check({
      meta: client.meta,
      blocks: client.blocks,
      catalog: client.catalog,
      status: await collectStatus(client.network, client.catalog),
      ...(inos === undefined ? {} : { only: (ino: Ino) => inos.has(ino) }),
      onProgress(count) {
        if (count < nextNote) return;
        nextNote += 1_000;
        note(`fsck: ${count} blocks checked`);
      },
    });
    if (options.json === true) printJson(result);
    else {
      for (const trouble of result.troubles) {
        print(
          `${trouble.kind}: ${trouble.paths.join(' = ')} at ${trouble.offset}: ${trouble.text} (block ${trouble.block.slice(0, 16)}…)`,
        );
      }
      print(`${result.blockCount} blocks of ${result.fileCount} files checked, ${result.troubles.length} findings`);
    }
    if (result.troubles.some((trouble) => trouble.kind !== 'mended-copy')) process.exitCode = EXIT.unhealthy;
  });
}

async function inodesBelow(fs: FileSystem, path: string): Promise<Set<number>> {
  const found = new Set<number>();
  const walk = async (at: string): Promise<void> => {
    const stats = await fs.lstat(at);
    found.add(Number(stats.ino));
    if (!stats.isDirectory()) return;
    for (const name of await fs.readdir(at)) await walk(`${at.replace(/\/+$/, '')}/${String(name)}`);
  };
  await walk(path);
  return found;
}
