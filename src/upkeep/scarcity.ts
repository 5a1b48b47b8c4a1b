/**
 * What one node knows of blocks that have fewer copies than their pool wants, as far as it sees to them. There is no list of
 * these: a walk finds them. So from the moment at which a change of the catalog may have left blocks with too few copies (a
 * node is gone, a pool wants more) until a walk has been through, a node says of itself that it is not sure.
 */
import { dataNodes } from '../catalog/membership.ts';
import { findPool, wantedCopies } from '../catalog/placement.ts';
import type { Catalog, CatalogNode, Pool } from '../catalog/types.ts';
import type { NodeId, PoolId } from '../ids.ts';
import type { CopyWork } from './repair-plan.ts';
import { scarceOf, sumOf } from './repair-walk.ts';
import type { Amount } from './repair-walk.ts';

/** Part of a node's report. */
export interface ScarceReport {
  readonly pool: number;
  /** Copies that this node would have to make, as far as it knows, of blocks that have fewer than the pool wants. */
  readonly count: number;
  readonly bytes: number;
  /** It has not looked through its blocks since some may have got too few copies: there may be more. */
  readonly unsure: boolean;
}

/** What is asked of the node. */
export interface ScarcityContext {
  /** It holds no blocks at all: then it sees to none. */
  readonly isEmpty: () => boolean;
  /** Repair has finished with this placement here. */
  readonly isSettled: (pool: Pool) => boolean;
}

/**
 * Whether blocks that had as many copies as the pool wants by the catalog before may have fewer than it wants now. What only
 * belongs elsewhere than it is does not count: its copies are there. `wasSettled`: all copies that were wanted before are made.
 */
export function mayMakeScarce(before: Catalog, now: Catalog, pool: Pool, wasSettled: boolean): boolean {
  const old = findPool(before, pool.id);
  const wanted = wantedCopies(now, pool);
  if (old === undefined || wanted <= 1) return false;
  if (wanted > wantedCopies(before, old)) return true;
  const left = new Set(
    dataNodes(now)
      .filter(isThere)
      .map(({ id }): NodeId => id),
  );
  // Nobody counts on what was drained, once that is done.
  const counted = dataNodes(before).filter((node) => isThere(node) && !(node.draining === true && wasSettled));
  return counted.some(({ id }) => !left.has(id));
}

/** Not down for so long that its copies are made elsewhere. */
function isThere(node: CatalogNode): boolean {
  return node.out !== true;
}

const NOTHING: Amount = { count: 0, bytes: 0 };

export class Scarcity {
  readonly #node: ScarcityContext;
  #catalog: Catalog | undefined;
  /** By pool: with which placement blocks may have got too few copies. */
  readonly #unsure = new Map<PoolId, number>();
  /** By pool: what the last walk that was through has left to be made, or one that was broken off had found. */
  readonly #known = new Map<PoolId, Amount>();
  /** The present walk: found and not made yet. */
  #walk: { readonly pool: PoolId; open: Amount } | undefined;

  constructor(node: ScarcityContext) {
    this.#node = node;
  }

  /** To be called with the first catalog, and with each one that follows. */
  note(catalog: Catalog): void {
    const before = this.#catalog;
    this.#catalog = catalog;
    if (this.#node.isEmpty()) return;
    for (const pool of catalog.pools) {
      const isUnsure =
        before === undefined
          ? wantedCopies(catalog, pool) > 1 && !this.#node.isSettled(pool)
          : mayMakeScarce(before, catalog, pool, this.#wasSettled(before, pool.id));
      if (isUnsure) this.#unsure.set(pool.id, pool.placementEpoch);
    }
  }

  #wasSettled(before: Catalog, id: PoolId): boolean {
    const pool = findPool(before, id);
    return pool !== undefined && this.#node.isSettled(pool);
  }

  /** A walk through the pool begins. */
  begin(pool: Pool): void {
    this.#walk = { pool: pool.id, open: NOTHING };
  }

  /** It ends, and is not through: what it has found stays. */
  breakOff(): void {
    if (this.#walk === undefined) return;
    const { pool } = this.#walk;
    this.#known.set(pool, this.#amountOf(pool));
    this.#walk = undefined;
  }

  found(tasks: readonly CopyWork[]): void {
    if (this.#walk !== undefined) this.#walk.open = sumOf(this.#walk.open, scarceOf(tasks));
  }

  copied(task: CopyWork): void {
    if (this.#walk === undefined || !task.isScarce) return;
    this.#walk.open = sumOf(this.#walk.open, { count: -1, bytes: -task.lengthBytes });
  }

  /** It is through, by the placement of this pool; `left`: what could not be made. */
  end(pool: Pool, left: Amount): void {
    this.#walk = undefined;
    this.#known.set(pool.id, left);
    if ((this.#unsure.get(pool.id) ?? 0) <= pool.placementEpoch) this.#unsure.delete(pool.id);
  }

  /** Pools of which blocks have too few copies, or may have. */
  report(pools: readonly Pool[]): ScarceReport[] {
    const knowsNothing = this.#catalog === undefined && !this.#node.isEmpty();
    return pools.flatMap(({ id }) => {
      const { count, bytes } = this.#amountOf(id);
      const unsure = knowsNothing || this.#unsure.has(id);
      return count > 0 || unsure ? [{ pool: id, count, bytes, unsure }] : [];
    });
  }

  /** What a walk finds again is not more than was known. */
  #amountOf(id: PoolId): Amount {
    const known = this.#known.get(id) ?? NOTHING;
    const open = this.#walk?.pool === id ? this.#walk.open : NOTHING;
    return open.count > known.count ? open : known;
  }
}
