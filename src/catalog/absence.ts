/**
 * Which node that is down is left out of placement, so that its blocks get their copies elsewhere, and which that is back is
 * taken in again: a pure planner that says the next single change (Ceph's `out` and `in`).
 *
 * A reboot should not move terabytes: a node is waited for. (Blocks of which one copy is left are not: repair copies them at
 * once, without a change of the catalog.) And nobody is left out when that would help nothing: if the nodes that are up hold
 * all the copies that they can already; or when as much is down as only a failure that takes many at once brings about
 * (a rack, a switch): the rest would be filled up for a loss that ends when the rack is back.
 */
import type { NodeId } from '../ids.ts';
import { stayingNodes } from './membership.ts';
import type { Catalog, CatalogChange, CatalogNode } from './types.ts';

/** How long a node may be down, unless the catalog says something else. */
export const REPAIR_AFTER_MS = 600_000;
/** The longest that may be set: a week. */
export const REPAIR_AFTER_MAX_MS = 604_800_000;
/** A node that is back is taken in when it has been up for so long: one that falls again at once moves nothing. */
const BACK_AFTER_MS = 5_000;

/** A node as whoever asks for the changes has seen it. */
export interface Presence {
  readonly up: boolean;
  /** For how long it has been so, at least. */
  readonly forMs: number;
}

export function nextAbsence(
  catalog: Catalog,
  presenceOf: (node: NodeId) => Presence,
): Extract<CatalogChange, { kind: 'setOut' }> | undefined {
  const staying = stayingNodes(catalog);
  const isUp = (node: CatalogNode): boolean => presenceOf(node.id).up;
  const back = staying.find((node) => node.out === true && isUp(node) && presenceOf(node.id).forMs >= BACK_AFTER_MS);
  if (back !== undefined) return { kind: 'setOut', id: back.id, out: false };
  const { repairAfterMs = REPAIR_AFTER_MS } = catalog;
  if (repairAfterMs === null) return undefined;
  const upCount = staying.filter(isUp).length;
  if (2 * upCount < staying.length) return undefined;
  const downCount = staying.length - upCount;
  const gains = catalog.pools.some((pool) => {
    const leastLeft = Math.max(0, Math.min(pool.copies, staying.length) - downCount);
    return leastLeft < Math.min(pool.copies, upCount);
  });
  if (!gains) return undefined;
  const gone = staying.find((node) => {
    const { up, forMs } = presenceOf(node.id);
    return node.out !== true && !up && forMs >= repairAfterMs;
  });
  return gone && { kind: 'setOut', id: gone.id, out: true };
}
