import type { BlockClient } from '../../blocks/types.ts';
import type { ClusterClient } from '../../client.ts';
import { blockIdToHex } from '../../ids.ts';
import type { Ino } from '../../ids.ts';
import { BLOCK_MAX_BYTES, FILE_MAX_BYTES } from '../../limits.ts';
import type { Extent } from '../../meta/types.ts';
import type { Stats } from '../../vfs/api.ts';
import { extentsNeeded } from '../../vfs/compact-plan.ts';
import { COMPACT_SAVED_MIN } from '../../vfs/options.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { EXIT } from '../exit-codes.ts';
import { nameFields, shownName } from '../file-names.ts';
import { modeText, typeName } from '../file-types.ts';
import { atPath } from '../path-errors.ts';
import { bytes, print, printJson, table } from '../output.ts';
import { withFileSystem } from '../with-cluster.ts';

const EXTENTS_PER_QUERY = 512;

interface Piece {
  readonly offset: number;
  readonly lengthBytes: number;
  readonly kind: string;
  readonly block?: string;
  readonly nodes?: readonly { readonly node: string; readonly state: string }[];
}

/** `tatami stat`: what `stat(1)` says, and for files where each block is. */
export async function statFile(path: string, options: WhereOptions & { json?: boolean }): Promise<void> {
  await withFileSystem(options, `tatami stat ${path}`, async (fs, client) => {
    const stats = await atPath(path, () => fs.lstat(path));
    const target = stats.isSymbolicLink() ? await fs.readlink(path, 'buffer') : undefined;
    const pool = stats.isFile() || stats.isDirectory() ? await poolOf(client, stats.ino as Ino) : undefined;
    const pieces = stats.isFile() ? await piecesOf(client, stats.ino as Ino) : undefined;
    const few = pieces === undefined ? 0 : extentsNeeded(pieces, pool?.blockSizeBytes ?? BLOCK_MAX_BYTES);
    if (options.json === true) {
      const { ino, size, mode, uid, gid, nlink } = stats;
      printJson({
        ...{ path, type: typeName(mode), ino, sizeBytes: size, mode, uid, gid, nlink },
        ...(stats.isCharacterDevice() || stats.isBlockDevice() ? { rdev: stats.rdev } : {}),
        ...{ atime: stats.atime.toISOString(), mtime: stats.mtime.toISOString(), ctime: stats.ctime.toISOString() },
        ...(target === undefined ? {} : nameFields('target', target)),
        ...(pool === undefined ? {} : { pool: pool.name }),
        ...(pieces === undefined ? {} : { extents: pieces, extentsNeeded: few, blocksPerNode: countPerNode(pieces) }),
      });
    } else {
      for (const line of describe(path, stats, target)) print(line);
      if (pool !== undefined)
        print(stats.isDirectory() ? `pool ${pool.name}, for what is made here` : `pool ${pool.name}`);
      if (pieces !== undefined) printPieces(pieces, few);
    }
    const isLost = (piece: Piece) => piece.nodes?.every((holder) => holder.state !== 'held') ?? false;
    if (pieces?.some(isLost) === true) process.exitCode = EXIT.unhealthy;
  });
}

function describe(path: string, stats: Stats, target: Uint8Array | undefined): string[] {
  const { ino, mode, uid, gid, nlink, size } = stats;
  const type = typeName(mode);
  const length = stats.isDirectory() ? `${size} entries` : `${size} bytes (${bytes(size)})`;
  const device = type === 'char' || type === 'block' ? `, device number ${stats.rdev}` : '';
  const permissions = `${(mode & 0o7777).toString(8).padStart(4, '0')} (${modeText(mode)})`;
  return [
    `${shownName(path)}: ${type}${target === undefined ? '' : ` to ${shownName(target)}`}`,
    `inode ${ino}, ${length}${device}, mode ${permissions}, owner ${uid}:${gid}, ${nlink} links`,
    `modified ${stats.mtime.toISOString()}, changed ${stats.ctime.toISOString()}, read ${stats.atime.toISOString()}`,
  ];
}

/** Where new blocks go. */
async function poolOf(
  { meta, catalog }: Pick<ClusterClient, 'meta' | 'catalog'>,
  ino: Ino,
): Promise<{ readonly name: string; readonly blockSizeBytes?: number }> {
  const { attr } = await meta.query<'getattr'>({ op: 'getattr', ino });
  return catalog.current().pools.find(({ id }) => id === attr.pool) ?? { name: String(attr.pool) };
}

async function piecesOf(client: Pick<ClusterClient, 'meta' | 'blocks'>, ino: Ino): Promise<Piece[]> {
  const pieces: Piece[] = [];
  for (let offset = 0; ;) {
    const found = await client.meta.query<'extents'>({
      op: 'extents',
      ino,
      offset,
      lengthBytes: FILE_MAX_BYTES - offset,
      limit: EXTENTS_PER_QUERY,
    });
    pieces.push(...(await Promise.all(found.extents.map((extent) => locate(client.blocks, extent)))));
    const last = found.extents.at(-1);
    if (!found.more || last === undefined) return pieces;
    offset = last.offset + last.lengthBytes;
  }
}

/** `few`: so many would hold the same bytes. */
function extentLine(pieces: readonly Piece[], few: number): string {
  const count = `${pieces.length} extents`;
  return pieces.length - few < COMPACT_SAVED_MIN ? count : `${count}, where ${few} would do: tatami compact`;
}

function printPieces(pieces: readonly Piece[], few: number): void {
  print(extentLine(pieces, few));
  if (pieces.length > 0) print(extentTable(pieces));
  for (const [node, count] of Object.entries(countPerNode(pieces))) print(`${node}: ${count} block copies`);
}

async function locate(blocks: Pick<BlockClient, 'locate'>, extent: Extent): Promise<Piece> {
  const { offset, lengthBytes, kind } = extent;
  if (extent.kind === 'inline') return { offset, lengthBytes, kind };
  return {
    offset,
    lengthBytes,
    kind,
    block: blockIdToHex(extent.id),
    nodes: await blocks.locate(extent.pool, extent.id),
  };
}

function countPerNode(pieces: readonly Piece[]): Record<string, number> {
  const seen = new Set<string>();
  const counts: Record<string, number> = {};
  for (const piece of pieces) {
    if (piece.block === undefined || seen.has(piece.block)) continue;
    seen.add(piece.block);
    for (const holder of piece.nodes ?? []) {
      if (holder.state === 'held') counts[holder.node] = (counts[holder.node] ?? 0) + 1;
    }
  }
  return counts;
}

function extentTable(pieces: readonly Piece[]): string {
  return table(
    ['offset', 'length', 'block', 'held by'],
    pieces.map((piece) => [
      piece.offset,
      piece.lengthBytes,
      piece.block === undefined ? `(${piece.kind})` : `${piece.block.slice(0, 16)}…`,
      (piece.nodes ?? [])
        .filter((holder) => holder.state !== 'missing')
        .map((holder) => (holder.state === 'held' ? holder.node : `${holder.node}?`))
        .join(' ') || '-',
    ]),
  );
}
