import type { ClusterClient } from '../../client.ts';
import type { Ino } from '../../ids.ts';
import { ROOT_INO } from '../../ids.ts';
import { LOCK_END_MAX, type HeldLock } from '../../meta/locks.ts';
import type { LockedFile } from '../../meta/types.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { nameFields, shownName } from '../file-names.ts';
import { print, printJson, table } from '../output.ts';
import { atPath } from '../path-errors.ts';
import { withFileSystem } from '../with-cluster.ts';

const FILES_PER_QUERY = 512;

interface Shown extends Pick<HeldLock, 'kind' | 'type' | 'start' | 'pid'> {
  /** Bytes, as names are. */
  readonly path: Uint8Array;
  /** Last byte; null: to the end of the file. */
  readonly end: number | null;
  /** The mount through which it was taken: host, pid, mount point. */
  readonly heldBy: string;
}

/** `tatami locks`: who holds which, of one file or of all. */
export async function locks(path: string | undefined, options: WhereOptions & { json?: boolean }): Promise<void> {
  await withFileSystem(options, 'tatami locks', async (fs, client) => {
    const shown: Shown[] = [];
    if (path !== undefined) {
      const ino = (await atPath(path, () => fs.stat(path))).ino as Ino;
      const { files } = await ask(client, ino, ino);
      for (const file of files) shown.push(...shownOf(Buffer.from(path), file));
    } else {
      for await (const file of lockedFiles(client)) shown.push(...shownOf(await pathOf(client, file.ino), file));
    }
    if (options.json === true)
      printJson(shown.map(({ path: at, ...lock }) => ({ ...nameFields('path', at), ...lock })));
    else if (shown.length === 0) print(path === undefined ? 'no file is locked' : `${shownName(path)} is not locked`);
    else print(describe(shown));
  });
}

function ask({ meta }: Pick<ClusterClient, 'meta'>, ino: Ino, lastIno: number) {
  return meta.query<'locks'>({ op: 'locks', ino, lastIno, limit: FILES_PER_QUERY });
}

async function* lockedFiles(client: Pick<ClusterClient, 'meta'>): AsyncGenerator<LockedFile> {
  for (let from = ROOT_INO; ;) {
    const { files, more } = await ask(client, from, Number.MAX_SAFE_INTEGER);
    yield* files;
    const last = files.at(-1);
    if (!more || last === undefined) return;
    from = (last.ino + 1) as Ino;
  }
}

/** A file that was unlinked while it is open has no path. */
async function pathOf({ meta }: Pick<ClusterClient, 'meta'>, ino: Ino): Promise<Uint8Array> {
  const paths = await meta.query<'paths'>({ op: 'paths', ino }).then(
    (found) => found.paths,
    () => [],
  );
  return paths[0] ?? Buffer.from(`inode ${ino}, without a name`);
}

function shownOf(path: Uint8Array, { locks: held }: LockedFile): Shown[] {
  return held.map(({ kind, type, start, end, pid, label }) => {
    return { path, kind, type, start, end: end === LOCK_END_MAX ? null : end, pid, heldBy: label };
  });
}

function describe(shown: readonly Shown[]): string {
  const rows = shown.map(({ path, kind, type, start, end, pid, heldBy }) => {
    const bytes = kind === 'flock' || (start === 0 && end === null) ? 'all' : `${start}-${end ?? 'end'}`;
    return [shownName(path), kind === 'posix' ? 'fcntl' : 'flock', type, bytes, pid, shownName(heldBy)];
  });
  return table(['path', 'by', 'type', 'bytes', 'pid', 'held by'], rows);
}
