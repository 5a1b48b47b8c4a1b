/**
 * The balancer behind a pool's upmap: hashing alone spreads placement groups unevenly (with 128 of them, easily 10%
 * off); exceptions for a few of them level the copies to within one placement group of each node's share.
 */
import { domainKey, domainsBelow, placementHead, straw2Head, wantedCopies } from './placement.ts';
import { activeNodes } from './membership.ts';
import type { Catalog, CatalogNode, FailureDomain, Pool } from './types.ts';
import type { NodeId } from '../ids.ts';

/**
 * An upmap under which each node holds its share (by weight) of the pool's copies, to about +-1 placement group, and is also
 * the first of its share of lists. It begins with the lists as they are in `before` (else with those that hashing gives), and
 * moves as few copies as it can, none so that a list is less spread over failure domains than it was, and where it can to where
 * hashing would have them. Pure; give the result as the `upmap` of the pool's next version (with a new placementEpoch).
 */
export function levelUpmap(catalog: Catalog, pool: Pool, before?: Catalog): Record<number, readonly NodeId[]> {
  const active = activeNodes(catalog);
  const copies = Math.min(pool.copies, active.length);
  const nodes = new Map(active.map((node) => [node.id, node]));
  const plain = Array.from({ length: pool.pgCount }, (_, pg) => straw2Head(active, pool, pg, copies));
  const beforeCount = before === undefined ? 0 : headCount(before, pool, nodes);
  // More groups than before: each begins with the list of the one whose blocks it has got (pools.ts).
  const old = before?.pools.find((one) => one.id === pool.id && pool.pgCount % one.pgCount === 0);
  const lists = plain.map((order, pg): List => {
    const from =
      before === undefined || old === undefined ? order : placementHead(before, old, pg % old.pgCount, beforeCount);
    const own = order.slice(0, copies);
    const head = from.filter((id) => nodes.has(id)).slice(0, copies);
    const held = new Set(before === undefined || old === undefined ? [] : from.slice(0, wantedCopies(before, old)));
    return { head, held, hashed: new Set(own) };
  });
  const level = new Leveller(nodes, pool, lists, copies);
  level.fill();
  level.spread();
  level.rearrange();
  level.level();
  const heads = lists.map(({ head }) => head);
  levelFirsts(heads, nodes, pool);
  const upmap: Record<number, readonly NodeId[]> = {};
  heads.forEach((head, pg) => {
    if (head.some((node, index) => node !== plain[pg]?.[index])) upmap[pg] = head;
  });
  return upmap;
}

/** `to` takes the place of `from` in the list. */
interface Step {
  readonly list: List;
  readonly from: NodeId;
  readonly to: NodeId;
}

/** So many of a list before the change have all in them that counts: those that held it, and the next for those that went. */
function headCount(before: Catalog, pool: Pool, nodes: ReadonlyMap<NodeId, unknown>): number {
  const gone = activeNodes(before).filter(({ id }) => !nodes.has(id)).length;
  const most = Math.max(pool.copies, ...before.pools.filter(({ id }) => id === pool.id).map(({ copies }) => copies));
  return most + gone;
}

interface List {
  /** The nodes that should hold the placement group. */
  readonly head: NodeId[];
  /** Those of `before`: whom else it is given to, it moves to. */
  readonly held: ReadonlySet<NodeId>;
  /** Those that hashing alone would give it to. */
  readonly hashed: ReadonlySet<NodeId>;
}

/** Copies (placement groups in the first `copies` of the list) per node, in the catalog's order of nodes. */
export function copiesPerNode(catalog: Catalog, pool: Pool): ReadonlyMap<NodeId, number> {
  const counts = new Map<NodeId, number>(activeNodes(catalog).map((node) => [node.id, 0]));
  for (let pg = 0; pg < pool.pgCount; pg++) {
    for (const node of placementHead(catalog, pool, pg, wantedCopies(catalog, pool)).slice(0, pool.copies))
      counts.set(node, (counts.get(node) ?? 0) + 1);
  }
  return counts;
}

/** How a node stands in a pool: placement groups of which it is to hold a copy, against its share by weight. */
export interface NodeLevel {
  readonly node: NodeId;
  readonly groups: number;
  readonly share: number;
}

/** Of the nodes that placement gives blocks to, in the catalog's order. */
export function levelOf(catalog: Catalog, pool: Pool): readonly NodeLevel[] {
  const active = activeNodes(catalog);
  const share = shares(new Map(active.map((node) => [node.id, node])), pool, Math.min(pool.copies, active.length));
  return [...copiesPerNode(catalog, pool)].map(([node, groups]) => ({ node, groups, share: share.get(node) ?? 0 }));
}

/**
 * Each node's share of the copies, by weight. A list names a node once, and a failure domain once where there are enough of
 * them: so none gets more than one copy of each list, and what it cannot take goes to the others.
 */
function shares(nodes: ReadonlyMap<NodeId, CatalogNode>, pool: Pool, copies: number): Map<NodeId, number> {
  const domains = new Map<string, CatalogNode[]>();
  for (const node of nodes.values()) {
    const key = domainKey(node, pool.domain);
    domains.set(key, [...(domains.get(key) ?? []), node]);
  }
  const total = pool.pgCount * copies;
  const own = (within: readonly CatalogNode[], part: number): Map<NodeId, number> =>
    sharedOut(new Map(within.map(({ id, weight }) => [id, weight])), part, pool.pgCount);
  if (domains.size < copies) return own([...nodes.values()], total);
  const weights = new Map([...domains].map(([key, members]) => [key, weightOf(members)]));
  const parts = sharedOut(weights, total, pool.pgCount);
  return new Map([...domains].flatMap(([key, members]) => [...own(members, parts.get(key) ?? 0)]));
}

function weightOf(nodes: readonly CatalogNode[]): number {
  return nodes.reduce((sum, { weight }) => sum + weight, 0);
}

/** `total` by weight, but nobody gets more than `most`. */
function sharedOut<Key>(weights: ReadonlyMap<Key, number>, total: number, most: number): Map<Key, number> {
  const result = new Map<Key, number>();
  let open = [...weights];
  let left = total;
  for (;;) {
    const sum = open.reduce((known, [, weight]) => known + weight, 0);
    const capped = open.filter(([, weight]) => (left * weight) / sum > most);
    if (capped.length === 0) {
      for (const [key, weight] of open) result.set(key, (left * weight) / sum);
      return result;
    }
    for (const [key] of capped) result.set(key, most);
    left -= capped.length * most;
    open = open.filter((entry) => !capped.includes(entry));
  }
}

class Leveller {
  readonly #nodes: ReadonlyMap<NodeId, CatalogNode>;
  readonly #pool: Pool;
  readonly #lists: readonly List[];
  readonly #copies: number;
  /** Copies that a node holds beyond its share. */
  readonly #excess = new Map<NodeId, number>();
  /** The lists that each node is in. */
  readonly #listsOf = new Map<NodeId, Set<List>>();
  /** How often one of a node's lists has changed. */
  readonly #changesOf = new Map<NodeId, number>();
  /** Pairs for which no list was found to move: at which count of changes of the first. */
  readonly #stuck = new Map<NodeId, Map<NodeId, number>>();

  constructor(nodes: ReadonlyMap<NodeId, CatalogNode>, pool: Pool, lists: readonly List[], copies: number) {
    this.#nodes = nodes;
    this.#pool = pool;
    this.#lists = lists;
    this.#copies = copies;
    const share = shares(nodes, pool, copies);
    for (const id of nodes.keys()) {
      this.#excess.set(id, -(share.get(id) ?? 0));
      this.#listsOf.set(id, new Set());
    }
    for (const list of lists) for (const node of list.head) this.#enter(list, node);
  }

  /** Lists that have become too short get the emptiest node that spreads them best. */
  fill(): void {
    for (const list of this.#lists) {
      while (list.head.length < this.#copies) {
        const best = this.#best(list.head, undefined);
        if (best === undefined) break;
        list.head.push(best);
        this.#enter(list, best);
      }
    }
  }

  /** Copies that share a failure domain though there is another one move there. */
  spread(): void {
    for (const list of this.#lists) {
      const { head } = list;
      for (let index = head.length - 1; index > 0 && this.#crowding(head) > 0; index--) {
        const from = head[index] as NodeId;
        const to = this.#best(head, from);
        if (to === undefined || this.#crowding(swapped(head, from, to)) >= this.#crowding(head)) continue;
        this.#move(list, from, to);
      }
    }
  }

  /**
   * Copies that move anyway go elsewhere instead, if need be in a chain (what one gives up for another goes to a third), as
   * long as that levels: it costs nothing.
   */
  rearrange(): void {
    /** The lists in which each node is among those that the copies move to. */
    const movingTo = new Map<NodeId, Set<List>>([...this.#nodes.keys()].map((id) => [id, new Set()]));
    const moving = this.#lists.filter(({ held, head }) => held.size > 0 && head.some((id) => !held.has(id)));
    for (const list of moving) for (const id of list.head) if (!list.held.has(id)) movingTo.get(id)?.add(list);
    for (let moves = 0; moves < moving.length * this.#copies; moves++) {
      const byExcess = [...this.#excess].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
      const least = byExcess.at(-1)?.[1] ?? 0;
      let chain: Step[] | undefined;
      for (const [from, over] of byExcess) {
        if (over - least <= 1) break;
        chain = this.#chainFrom(from, over, movingTo);
        if (chain !== undefined) break;
      }
      if (chain === undefined) return;
      for (const { list, from, to } of chain) {
        this.#move(list, from, to);
        movingTo.get(from)?.delete(list);
        if (!list.held.has(to)) movingTo.get(to)?.add(list);
      }
    }
  }

  /** Breadth first: the shortest chain to a node that holds less by more than one. Its last step comes first. */
  #chainFrom(start: NodeId, over: number, movingTo: ReadonlyMap<NodeId, ReadonlySet<List>>): Step[] | undefined {
    const reached = new Map<NodeId, Step | undefined>([[start, undefined]]);
    for (const from of reached.keys()) {
      for (const list of movingTo.get(from) ?? []) {
        const crowding = this.#crowding(list.head);
        for (const to of this.#nodes.keys()) {
          if (reached.has(to) || list.head.includes(to)) continue;
          if (this.#crowding(swapped(list.head, from, to)) > crowding) continue;
          reached.set(to, { list, from, to });
          if (over - (this.#excess.get(to) ?? 0) > 1) return stepsTo(to, reached);
        }
      }
    }
    return undefined;
  }

  /** From the fullest node that can give to the emptiest that can take, as long as that helps. */
  level(): void {
    // Each move lowers the sum of squared excess, so this ends; the bound is a belt to the braces.
    for (let moves = 0; moves < this.#lists.length * this.#copies; moves++) {
      const byExcess = [...this.#excess].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
      if (!this.#levelOne(byExcess)) return;
    }
  }

  #levelOne(byExcess: readonly (readonly [NodeId, number])[]): boolean {
    const emptiest = [...byExcess].reverse();
    for (const [from, over] of byExcess) {
      for (const [to, under] of emptiest) {
        if (over - under <= 1) break;
        const list = this.#listToMove(from, to);
        if (list === undefined) continue;
        this.#move(list, from, to);
        return true;
      }
    }
    return false;
  }

  /** Of the lists that may have `to` in the place of `from`, one that comes closest to what hashing gives. */
  #listToMove(from: NodeId, to: NodeId): List | undefined {
    const changes = this.#changesOf.get(from) ?? 0;
    const stuck = this.#stuck.get(from) ?? new Map<NodeId, number>();
    if (stuck.get(to) === changes) return undefined;
    let best: { readonly list: List; readonly gain: number } | undefined;
    for (const list of this.#listsOf.get(from) ?? []) {
      const { head, hashed } = list;
      const gain = Number(hashed.has(to)) - Number(hashed.has(from));
      if (head.includes(to) || (best !== undefined && gain <= best.gain)) continue;
      if (this.#crowding(swapped(head, from, to)) > this.#crowding(head)) continue;
      if (gain === 1) return list;
      best = { list, gain };
    }
    if (best === undefined) this.#stuck.set(from, stuck.set(to, changes));
    return best?.list;
  }

  /** For a list, in the place of `from` or in addition: the node that crowds it least, of these the emptiest. */
  #best(head: readonly NodeId[], from: NodeId | undefined): NodeId | undefined {
    let best: { readonly id: NodeId; readonly crowding: number; readonly excess: number } | undefined;
    for (const id of this.#nodes.keys()) {
      if (head.includes(id)) continue;
      const crowding = this.#crowding(from === undefined ? [...head, id] : swapped(head, from, id));
      const excess = this.#excess.get(id) ?? 0;
      if (best === undefined || crowding < best.crowding || (crowding === best.crowding && excess < best.excess)) {
        best = { id, crowding, excess };
      }
    }
    return best?.id;
  }

  /** Pairs of copies that one failure would take together; those of the larger domains count for more than all others. */
  #crowding(head: readonly NodeId[]): number {
    let sum = 0;
    for (const domain of domainsBelow[this.#pool.domain]) {
      sum *= this.#copies * this.#copies;
      const keys = head.map((id) => domainOf(this.#nodes.get(id), domain));
      keys.forEach((key, index) => (sum += keys.indexOf(key) < index ? 1 : 0));
    }
    return sum;
  }

  #move(list: List, from: NodeId, to: NodeId): void {
    for (const node of [...list.head, to]) this.#changesOf.set(node, (this.#changesOf.get(node) ?? 0) + 1);
    list.head[list.head.indexOf(from)] = to;
    this.#listsOf.get(from)?.delete(list);
    this.#add(from, -1);
    this.#enter(list, to);
  }

  #enter(list: List, node: NodeId): void {
    this.#listsOf.get(node)?.add(list);
    this.#add(node, 1);
  }

  #add(node: NodeId, count: number): void {
    this.#excess.set(node, (this.#excess.get(node) ?? 0) + count);
  }
}

function stepsTo(end: NodeId, reached: ReadonlyMap<NodeId, Step | undefined>): Step[] {
  const steps: Step[] = [];
  for (let step = reached.get(end); step !== undefined; step = reached.get(step.from)) steps.push(step);
  return steps;
}

function domainOf(node: CatalogNode | undefined, domain: FailureDomain): string {
  return node === undefined ? '' : domainKey(node, domain);
}

function swapped(head: readonly NodeId[], from: NodeId, to: NodeId): NodeId[] {
  return head.map((id) => (id === from ? to : id));
}

/** Swaps first and later nodes within lists, so that the first (which forwards what is written) is shared out as well. */
function levelFirsts(heads: NodeId[][], nodes: ReadonlyMap<NodeId, CatalogNode>, pool: Pool): void {
  const share = shares(nodes, pool, 1);
  const excess = new Map<NodeId, number>();
  for (const id of nodes.keys()) excess.set(id, -(share.get(id) ?? 0));
  for (const head of heads) if (head[0] !== undefined) excess.set(head[0], (excess.get(head[0]) ?? 0) + 1);
  for (let moves = 0; moves < heads.length; moves++) {
    let best: { head: NodeId[]; index: number; gain: number } | undefined;
    for (const head of heads) {
      const first = head[0];
      if (first === undefined) continue;
      for (let index = 1; index < head.length; index++) {
        const gain = (excess.get(first) ?? 0) - (excess.get(head[index] as NodeId) ?? 0);
        if (gain > 1 && (best === undefined || gain > best.gain)) best = { head, index, gain };
      }
    }
    if (best === undefined) return;
    const first = best.head[0] as NodeId;
    const other = best.head[best.index] as NodeId;
    best.head[0] = other;
    best.head[best.index] = first;
    excess.set(first, (excess.get(first) ?? 0) - 1);
    excess.set(other, (excess.get(other) ?? 0) + 1);
  }
}
