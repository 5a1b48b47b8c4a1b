/**
 * Which blocks are to be copied where: a pure planner. It knows the catalog, who holds what of a batch of blocks, and how
 * the nodes are; it says what *this* node is to do about it. Repair after a loss, the emptying of a drained node and the
 * filling of a new one are the same: a block's wanted holders lack it.
 *
 * Each block has one node that sees to it: the first in its placement order that holds it and has not finished (`settled`)
 * with the present placement. All nodes plan by the same rule, so the work is spread over them as the blocks are, and
 * nobody has to give orders. Where two believe that it is theirs, one copy too many is sent and found to be there already.
 *
 * Nothing is deleted here: copies only become more.
 */
import { pgOf, placementOrder, wantedCopies } from '../catalog/placement.ts';
import { activeNodes, dataNodes } from '../catalog/membership.ts';
import type { Catalog, Pool } from '../catalog/types.ts';
import type { BlockId, NodeId } from '../ids.ts';

/** `away`: down, but not for long. `gone`: not waited for any more. `full`: takes no more blocks. */
export type NodeView = 'up' | 'away' | 'gone' | 'full';

/** A block that this node holds. */
export interface HeldBlock {
  readonly id: BlockId;
  readonly lengthBytes: number;
  /** Its collection stamp here. */
  readonly generation: number;
}

export interface RepairView {
  readonly self: NodeId;
  readonly catalog: Catalog;
  readonly pool: Pool;
  readonly viewOf: (node: NodeId) => NodeView;
  /** Has finished with the present placement: it does nothing more for it. Never asked about `self`. */
  readonly isSettled: (node: NodeId) => boolean;
}

export interface CopyWork extends HeldBlock {
  readonly to: NodeId;
  /** Copies on nodes that are up, this one's included. */
  readonly copies: number;
  /** Without this one the block has fewer copies than the pool wants; else it only has some of them elsewhere. */
  readonly isScarce: boolean;
}

export interface RepairPlan {
  /** To copy now, the most endangered first. */
  readonly work: readonly CopyWork[];
  /** Owed to nodes that are away for a short time. */
  readonly owed: readonly CopyWork[];
  /** Blocks that lack a copy on one of their wanted holders, whoever sees to it. */
  readonly missingCount: number;
  readonly missingBytes: number;
  /** Copies that can wait. */
  readonly postponed: readonly CopyWork[];
}

/** The nodes that should hold a block, best first: those that are gone or full are passed over. */
export function wantedHolders({ catalog, pool, viewOf }: Omit<RepairView, 'self'>, id: BlockId): readonly NodeId[] {
  const able = activeOrder(catalog, pool, id).filter((node) => ['up', 'away'].includes(viewOf(node)));
  return able.slice(0, wantedCopies(catalog, pool));
}

/** Whom to ask which of these blocks they hold, as indexes into `blocks`. */
export function whomToAsk(view: RepairView, blocks: readonly HeldBlock[]): ReadonlyMap<NodeId, readonly number[]> {
  const questions = new Map<NodeId, number[]>();
  blocks.forEach((block, index) => {
    for (const node of wantedHolders(view, block.id)) {
      if (node === view.self || view.viewOf(node) === 'away') continue;
      const asked = questions.get(node);
      if (asked === undefined) questions.set(node, [index]);
      else asked.push(index);
    }
  });
  return questions;
}

/**
 * `holdersOf`: who said that it holds the block with that index; `self` is one without being named. Whoever was not asked counts
 * as one that lacks it: see {@link whomElseToAsk}.
 */
export function planCopies(
  view: RepairView,
  blocks: readonly HeldBlock[],
  holdersOf: (index: number) => ReadonlySet<NodeId>,
): RepairPlan {
  const work: CopyWork[] = [];
  const owed: CopyWork[] = [];
  let missingCount = 0;
  let missingBytes = 0;
  blocks.forEach((block, index) => {
    const holders = new Set([...holdersOf(index), view.self]);
    const wanted = wantedHolders(view, block.id);
    const missing = wanted.filter((node) => !holders.has(node));
    if (missing.length === 0) return;
    missingCount++;
    missingBytes += block.lengthBytes;
    if (whoSeesTo(view, block.id, holders) !== view.self) return;
    const away = missing.filter((node) => view.viewOf(node) === 'away');
    const now = missing.filter((node) => !away.includes(node));
    // One copy is left: nobody is waited for.
    if (holders.size === 1 && now.length === 0) now.push(...substitute(view, block.id, wanted));
    const lacking = wantedCopies(view.catalog, view.pool) - holders.size;
    const tasks = [...now, ...away].map((to, at): CopyWork => ({
      ...block,
      to,
      copies: holders.size,
      isScarce: at < lacking,
    }));
    work.push(...tasks.slice(0, now.length));
    owed.push(...tasks.slice(now.length));
  });
  return { work: work.sort((a, b) => a.copies - b.copies), owed, missingCount, missingBytes, postponed: [] };
}

/**
 * Whom to ask in addition: everybody else, about blocks that a wanted holder lacks and of which fewer than `below` other
 * copies are known.
 */
export function whomElseToAsk(
  view: RepairView,
  blocks: readonly HeldBlock[],
  holdersOf: (index: number) => ReadonlySet<NodeId>,
  asked: ReadonlyMap<NodeId, readonly number[]>,
  below: number,
): ReadonlyMap<NodeId, readonly number[]> {
  const wasAsked = new Map([...asked].map(([node, indexes]) => [node, new Set(indexes)]));
  const questions = new Map<NodeId, number[]>();
  blocks.forEach((block, index) => {
    const holders = holdersOf(index);
    if (holders.size >= below) return;
    if (wantedHolders(view, block.id).every((node) => node === view.self || holders.has(node))) return;
    for (const { id } of dataNodes(view.catalog)) {
      if (id === view.self || wasAsked.get(id)?.has(index) === true || !['up', 'full'].includes(view.viewOf(id)))
        continue;
      const list = questions.get(id);
      if (list === undefined) questions.set(id, [index]);
      else list.push(index);
    }
  });
  return questions;
}

/** The plan without the copies of blocks that have enough of them, if not all where they belong. */
export function onlyTheScarce(view: RepairView, plan: RepairPlan): RepairPlan {
  const wanted = wantedCopies(view.catalog, view.pool);
  const hasTooFew = ({ copies }: CopyWork): boolean => copies < wanted;
  return {
    ...plan,
    work: plan.work.filter(hasTooFew),
    owed: plan.owed.filter(hasTooFew),
    postponed: [...plan.work, ...plan.owed].filter((task) => !hasTooFew(task)),
  };
}

function whoSeesTo(view: RepairView, id: BlockId, holders: ReadonlySet<NodeId>): NodeId | undefined {
  const order = placementOrder(view.catalog, view.pool, pgOf(view.pool, id));
  return order.find((node) => holders.has(node) && (node === view.self || !view.isSettled(node)));
}

/** One more node that is up, the next in order. */
function substitute(view: RepairView, id: BlockId, wanted: readonly NodeId[]): readonly NodeId[] {
  const next = activeOrder(view.catalog, view.pool, id).find(
    (node) => node !== view.self && !wanted.includes(node) && view.viewOf(node) === 'up',
  );
  return next === undefined ? [] : [next];
}

function activeOrder(catalog: Catalog, pool: Pool, id: BlockId): readonly NodeId[] {
  return placementOrder(catalog, pool, pgOf(pool, id)).slice(0, activeNodes(catalog).length);
}
