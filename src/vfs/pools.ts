/**
 * Which pool the data of a file goes to. An inode has its pool from the directory that it was made in; programs see it, and
 * set that of a directory, as the extended attribute `tatami.pool`. It is not listed, so that copying all attributes of a
 * directory does not take its pool along.
 */
import { FsError } from '../errors.ts';
import type { NodeId, PoolId } from '../ids.ts';
import type { Pool } from '../catalog/types.ts';
import type { MountState } from './mount-state.ts';
import type { VfsOptions } from './options.ts';

export const POOL_XATTR = Buffer.from('tatami.pool');

/** A pool that metadata names is in the newest catalog. So long it is looked for. */
const LOOK_FOR_MS = 5_000;
const LOOK_FIRST_MS = 10;

type Known = Pick<MountState, 'catalog' | 'clock'>;

export function findPool(catalog: VfsOptions['catalog'], matches: (pool: Pool) => boolean): Pool | undefined {
  return catalog.current().pools.find(matches);
}

/** Undefined if the pool is known here; else resolves when it is: others may have heard of it before this process. */
export function untilKnown(state: Known, id: PoolId): Promise<void> | undefined {
  if (findPool(state.catalog, (pool) => pool.id === id) !== undefined) return undefined;
  return lookFor(state, (pool) => pool.id === id, LOOK_FOR_MS).then((found) => {
    if (found === undefined) throw new FsError('EIO', `pool ${id} is not in the catalog`);
  });
}

/** The filesystem pool of that name. EINVAL if there is none, or it is a library's. */
export async function poolNamed(state: Known, name: string): Promise<Pool> {
  const found = await lookFor(state, (pool) => pool.name === name, 0);
  if (found === undefined) throw new FsError('EINVAL', `there is no pool ${name}`);
  if (found.kind === 'library') throw new FsError('EINVAL', `pool ${name} is for programs, not for files`);
  return found;
}

/** Asks once at least, unless it is known. */
async function lookFor(
  { catalog, clock }: Known,
  matches: (pool: Pool) => boolean,
  forMs: number,
): Promise<Pool | undefined> {
  const untilMs = clock.monotonicMs() + forMs;
  for (let waitMs = LOOK_FIRST_MS; ; waitMs *= 2) {
    const known = findPool(catalog, matches);
    if (known !== undefined) return known;
    // Nobody in particular is silent.
    await catalog.lookForNewer?.('' as NodeId);
    const found = findPool(catalog, matches);
    if (found !== undefined || clock.monotonicMs() + waitMs > untilMs) return found;
    await clock.sleep(waitMs);
  }
}
