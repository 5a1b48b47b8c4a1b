import type { BlockClient } from '../../blocks/types.ts';
import { blockIdToHex } from '../../ids.ts';
import type { Ino } from '../../ids.ts';
import { FILE_MAX_BYTES } from '../../limits.ts';
import type { Extent } from '../../meta/types.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { EXIT } from '../exit-codes.ts';
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

/** `tatami stat`: what `stat(1)` says, and where each block is. */
export async function statFile(path: string, options: WhereOptions & { json?: boolean }): Promise<void> {
  await withFileSystem(options, `tatami stat ${path}`, async (fs, client) => {
    const stats = await fs.lstat(path);
    const ino = Number(stats.ino) as Ino;
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
      if (!found.more || last === undefined) break;
      offset = last.offset + last.lengthBytes;
    }
    const perNode = countPerNode(pieces);
    const unreadable = pieces.filter((piece) => piece.nodes?.every((holder) => holder.state !== 'held') ?? false);
    if (options.json === true) {
      const { size, mode, uid, gid, nlink } = stats;
      printJson({ path, ino, sizeBytes: Number(size), mode, uid, gid, nlink, extents: pieces, blocksPerNode: perNode });
    } else {
      print(
        `${path}: inode ${ino}, ${stats.size} bytes (${bytes(Number(stats.size))}), mode ${(stats.mode & 0o7777).toString(8)}, owner ${stats.uid}:${stats.gid}, ${stats.nlink} links`,
      );
      print(`modified ${stats.mtime.toISOString()}, ${pieces.length} extents`);
      if (pieces.length > 0) print(extentTable(pieces));
      for (const [node, count] of Object.entries(perNode)) print(`${node}: ${count} block copies`);
    }
    if (unreadable.length > 0) process.exitCode = EXIT.unhealthy;
  });
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
