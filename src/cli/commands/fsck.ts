import type { ClusterClient } from '../../client.ts';
import type { Ino } from '../../ids.ts';
import { BLOCK_MAX_BYTES } from '../../limits.ts';
import type { Attr } from '../../meta/types.ts';
import { filesBelow } from '../../upkeep/file-extents.ts';
import { fsck as check } from '../../upkeep/fsck.ts';
import type { FsckResult, Trouble } from '../../upkeep/fsck.ts';
import { collectStatus, storedBlocks } from '../../upkeep/status.ts';
import type { FileSystem } from '../../vfs/api.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { namesJson } from '../damage-lines.ts';
import { EXIT } from '../exit-codes.ts';
import { shownName } from '../file-names.ts';
import { JsonList } from '../json-list.ts';
import { atPath } from '../path-errors.ts';
import { bytes, note, print, progress } from '../output.ts';
import { withFileSystem } from '../with-cluster.ts';

/** Orphans printed one by one; all of them are in the JSON. */
const ORPHANS_SHOWN = 20;

export interface FsckCommandOptions extends WhereOptions {
  readonly repair?: boolean;
  readonly json?: boolean;
}

export async function fsck(path: string, options: FsckCommandOptions): Promise<void> {
  await withFileSystem(options, 'tatami fsck', async (fs, client) => {
    const status = await collectStatus(client);
    const below = path === '/' ? undefined : await atPath(path, () => attributesOf(fs, client, path));
    const { copyCount, blockCount } = storedBlocks(status);
    const count = (of: number): string => `${of} blocks`;
    const expected = below === undefined ? blockCount : await blocksBelow(client, below);
    const bars = {
      blocks: progress('fsck', expected, count),
      orphans: progress('fsck: copies on the nodes', copyCount, count),
    };
    const json = options.json === true ? new JsonList('troubles') : undefined;
    let orphansShown = 0;
    const result = await check({
      meta: client.meta,
      network: client.network,
      catalog: client.catalog,
      status,
      repair: options.repair === true,
      ...(below === undefined ? {} : { below }),
      onTrouble(trouble) {
        if (json !== undefined) json.add(troubleJson(trouble));
        else if (trouble.kind !== 'orphaned' || orphansShown++ < ORPHANS_SHOWN) print(troubleLine(trouble));
      },
      onProgress(phase, done) {
        if (phase === 'orphans') bars.blocks.end();
        bars[phase].update(done);
      },
    }).finally(() => {
      bars.blocks.end();
      bars.orphans.end();
    });
    if (json === undefined) summarise(result, options.repair === true);
    else json.end({ ...result, orphans: result.orphans ?? null });
    if (result.unrepairedCount > 0) process.exitCode = EXIT.unhealthy;
  });
}

async function attributesOf(fs: FileSystem, client: ClusterClient, path: string): Promise<Attr> {
  const { ino } = await fs.lstat(path);
  const { attr } = await client.meta.query<'getattr'>({ op: 'getattr', ino: Number(ino) as Ino });
  return attr;
}

async function blocksBelow({ meta }: ClusterClient, root: Attr): Promise<number> {
  let count = 0;
  for await (const { sizeBytes } of filesBelow(meta, root)) count += Math.ceil(sizeBytes / BLOCK_MAX_BYTES);
  return count;
}

function summarise(result: FsckResult, wasRepair: boolean): void {
  const { blockCount, fileCount, troubleCounts, orphans, unrepairedCount, silentNodes } = result;
  const { orphaned, ...others } = troubleCounts;
  const found = Object.entries(others).filter(([, count]) => count > 0);
  if (orphaned > ORPHANS_SHOWN)
    print(`... and ${orphaned - ORPHANS_SHOWN} more that no file uses (all of them: --json)`);
  print(
    `${blockCount} blocks of ${fileCount} files checked, ${found.reduce((sum, [, count]) => sum + count, 0)} findings` +
      (found.length > 0 ? `: ${found.map(([kind, count]) => `${count} ${kind}`).join(', ')}` : ''),
  );
  if (orphans !== undefined && orphans.count > 0) {
    print(
      `${orphans.count} blocks (${bytes(orphans.bytes)} with all copies) are used by no file: \`tatami gc\` gives their ` +
        'space back, unless a write that is under way names them first',
    );
  }
  if (silentNodes.length > 0) note(`not asked, as they do not answer: ${silentNodes.join(', ')}`);
  if (unrepairedCount > 0 && !wasRepair)
    note('`tatami fsck --repair` has the missing copies made and the damaged mended.');
  if (unrepairedCount > 0 && wasRepair) {
    note(`${unrepairedCount} could not be repaired now: bring back nodes that are down, then run it again.`);
  }
}

/** The documented shape of a finding in `tatami fsck --json`. */
function troubleJson({ kind, use, ...rest }: Trouble) {
  const { ino = null, offset = null, paths = [] } = use ?? {};
  const names = use !== undefined && paths.length === 0 ? { paths: [nameless(use.ino)] } : namesJson(paths);
  return { kind, ...names, ino, offset, ...rest };
}

function troubleLine({ kind, use, pool, block, text, isRepaired }: Trouble): string {
  const names = use === undefined ? `pool ${pool}` : use.paths.map(shownName).join(' = ') || nameless(use.ino);
  const where = use === undefined ? names : `${names} at ${use.offset}`;
  const repaired = isRepaired && kind !== 'mended-copy' ? ' [repaired]' : '';
  return `${kind}: ${where}: ${text} (block ${block.slice(0, 16)}…)${repaired}`;
}

function nameless(ino: number): string {
  return `(inode ${ino}, deleted but open)`;
}
