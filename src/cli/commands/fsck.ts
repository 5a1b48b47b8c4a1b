import { isUtf8 } from 'node:buffer';
import type { Ino } from '../../ids.ts';
import { BLOCK_MAX_BYTES } from '../../limits.ts';
import { fsck as check } from '../../upkeep/fsck.ts';
import type { Trouble } from '../../upkeep/fsck.ts';
import { collectStatus, storedBlocks } from '../../upkeep/status.ts';
import type { FileSystem } from '../../vfs/api.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { EXIT } from '../exit-codes.ts';
import { childPath, shownName } from '../file-names.ts';
import { atPath } from '../path-errors.ts';
import { print, printJson, progress } from '../output.ts';
import { withFileSystem } from '../with-cluster.ts';

export async function fsck(path: string, options: WhereOptions & { json?: boolean }): Promise<void> {
  await withFileSystem(options, 'tatami fsck', async (fs, client) => {
    const status = await collectStatus(client.network, client.catalog);
    const below = path === '/' ? undefined : await atPath(path, () => inodesBelow(fs, path));
    const blockCount = below?.blockCount ?? storedBlocks(status).blockCount;
    const bar = progress('fsck', blockCount, (count) => `${count} blocks`);
    const result = await check({
      meta: client.meta,
      blocks: client.blocks,
      catalog: client.catalog,
      status,
      ...(below === undefined ? {} : { only: (ino: Ino) => below.inos.has(ino) }),
      onProgress: bar.update,
    }).finally(bar.end);
    if (options.json === true) printJson({ ...result, troubles: result.troubles.map(troubleJson) });
    else {
      for (const trouble of result.troubles) print(troubleLine(trouble));
      print(`${result.blockCount} blocks of ${result.fileCount} files checked, ${result.troubles.length} findings`);
    }
    if (result.troubles.some((trouble) => trouble.kind !== 'mended-copy')) process.exitCode = EXIT.unhealthy;
  });
}

/** The documented shape of a finding in `tatami fsck --json`. */
function troubleJson(trouble: Trouble) {
  const { kind, paths, ...rest } = trouble;
  const isText = paths.every((path) => isUtf8(path));
  const pathsBase64 = isText ? {} : { pathsBase64: paths.map((path) => Buffer.from(path).toString('base64')) };
  return { kind, paths: namesOf(trouble, (path) => Buffer.from(path).toString()), ...pathsBase64, ...rest };
}

function troubleLine(trouble: Trouble): string {
  const paths = namesOf(trouble, shownName).join(' = ');
  return `${trouble.kind}: ${paths} at ${trouble.offset}: ${trouble.text} (block ${trouble.block.slice(0, 16)}…)`;
}

function namesOf(trouble: Trouble, write: (path: Uint8Array) => string): string[] {
  return trouble.paths.length > 0 ? trouble.paths.map(write) : [`(inode ${trouble.ino}, deleted but open)`];
}

/** All inodes of a tree, and about how many blocks they have. */
async function inodesBelow(fs: FileSystem, path: string): Promise<{ inos: Set<number>; blockCount: number }> {
  const inos = new Set<number>();
  let blockCount = 0;
  const walk = async (at: string | Buffer): Promise<void> => {
    const stats = await fs.lstat(at);
    inos.add(Number(stats.ino));
    if (stats.isFile()) blockCount += Math.ceil(stats.size / BLOCK_MAX_BYTES);
    if (!stats.isDirectory()) return;
    for (const name of await fs.readdir(at, 'buffer')) await walk(childPath(at, name));
  };
  await walk(path);
  return { inos, blockCount };
}
