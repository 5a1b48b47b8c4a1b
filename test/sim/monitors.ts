/** What must hold at every instant of a run; looked at after every event. */
import { isDeepStrictEqual } from 'node:util';
import { FIRST_GROUP_ID } from '../../src/catalog/document.ts';
import type { Catalog } from '../../src/catalog/types.ts';
import type { RunningNode } from '../../src/node.ts';
import { hostOf } from '../../src/testing.ts';
import type { SimCluster } from './cluster.ts';
import { watchPushes } from './push-watch.ts';

/** `atMs`: when it came to light. */
export interface Violation {
  readonly atMs: number;
  readonly what: string;
}

export class Monitors {
  readonly #sim: SimCluster;
  /** Epoch of the group: the run of the node that served in it. */
  readonly #servedBy = new Map<number, RunningNode>();
  /** Epoch of the catalog: its text, and who had it first. */
  readonly #catalogs = new Map<number, { readonly catalog: Catalog; readonly node: string }>();
  readonly #seenCatalog = new WeakMap<RunningNode, Catalog>();
  readonly #watched = new WeakSet<RunningNode>();
  readonly violations: Violation[] = [];
  readonly #violated = new Set<string>();
  /** Nodes that stopped by themselves. */
  readonly stopped: { readonly id: string; readonly error: Error; readonly atMs: number }[] = [];
  /** As the command does: the process of such a node ends. */
  onStart: ((node: RunningNode) => void) | undefined;
  onStop: ((id: string) => void) | undefined;
  /** A primary pushes to a member. */
  onPush: ((from: string, to: string) => void) | undefined;
  /** How often another node began to serve. */
  failoverCount = 0;
  #lastServing: string | undefined;
  #newest: { readonly epoch: number; readonly primary: string } | undefined;

  constructor(sim: SimCluster) {
    this.#sim = sim;
  }

  look(): void {
    let primary: RunningNode | undefined;
    let others: RunningNode[] | undefined;
    for (const id of this.#sim.cluster.nodeIds) {
      const node = this.#sim.cluster.node(id);
      if (node === undefined) continue;
      this.#watch(node);
      const catalog = this.#lookAtCatalog(node);
      if (catalog.groups[0]?.primary !== id) continue;
      if (primary === undefined) primary = node;
      else (others ??= []).push(node);
    }
    if (primary === undefined) return;
    if (others === undefined) this.#lookAtOne(primary);
    else this.#lookAtSeveral([primary, ...others]);
  }

  /** The only node that takes itself for the primary: of interest when it begins to serve. */
  #lookAtOne(node: RunningNode): void {
    const epoch = node.catalog.current().groups[0]?.epoch ?? 0;
    if (this.#servedBy.get(epoch) === node) return;
    if (this.#serves(node)) this.#lookAtServing(node);
  }

  #lookAtSeveral(nodes: readonly RunningNode[]): void {
    const serving = nodes.filter((node) => this.#serves(node));
    if (serving.length > 1) this.#report(`R5: ${serving.map(({ id }) => id).join(' and ')} serve at the same time`);
    for (const node of serving) this.#lookAtServing(node);
  }

  #serves(node: RunningNode): boolean {
    if (this.#sim.world.isPaused(hostOf(node.id))) return false;
    return node.meta.member(FIRST_GROUP_ID)?.status().serving === true;
  }

  #lookAtServing(node: RunningNode): void {
    const epoch = node.meta.member(FIRST_GROUP_ID)?.status().epoch ?? 0;
    const before = this.#servedBy.get(epoch);
    if (before === undefined) this.#servedBy.set(epoch, node);
    else if (before !== node) this.#report(`${before.id} and another run (${node.id}) both serve in epoch ${epoch}`);
    if (this.#lastServing !== node.id) {
      if (this.#lastServing !== undefined) this.failoverCount++;
      this.#lastServing = node.id;
    }
  }

  #lookAtCatalog(node: RunningNode): Catalog {
    const catalog = node.catalog.current();
    const before = this.#seenCatalog.get(node);
    if (before !== catalog) this.#lookAtNewCatalog(node, catalog, before);
    return catalog;
  }

  #lookAtNewCatalog(node: RunningNode, catalog: Catalog, before: Catalog | undefined): void {
    this.#seenCatalog.set(node, catalog);
    if (before !== undefined && before.epoch > catalog.epoch) this.#report(`${node.id} went back to an older catalog`);
    const known = this.#catalogs.get(catalog.epoch);
    if (known === undefined) {
      this.#catalogs.set(catalog.epoch, { catalog, node: node.id });
      this.#lookAtPromotion(catalog);
    }
    // Whoever has read it from bytes may have its keys in another order.
    if (known !== undefined && !isDeepStrictEqual(known.catalog, catalog))
      this.#report(`catalog ${catalog.epoch} differs between ${known.node} and ${node.id}`);
  }

  /** R5: whoever is promoted, or the primary that handed over, had stopped, before it proposed that, to acknowledge the epoch before. */
  #lookAtPromotion({ epoch, groups: [group] }: Catalog): void {
    const before = this.#newest;
    if (group === undefined || epoch <= (before?.epoch ?? 0)) return;
    this.#newest = { epoch, primary: group.primary };
    // Only from one catalog to the next is known what changed.
    if (before?.epoch !== epoch - 1 || before.primary === group.primary) return;
    if (group.handedOver === true) {
      const old = this.#sim.cluster.node(before.primary);
      if (old === undefined || !this.#serves(old)) return;
      this.#report(`R5: ${old.id} serves although it has handed epoch ${group.epoch - 1} over to ${group.primary}`);
      return;
    }
    const member = this.#sim.cluster.node(group.primary)?.meta.member(FIRST_GROUP_ID);
    if (member === undefined || member.fencedEpoch >= group.epoch - 1) return;
    this.#report(`R5: ${group.primary} became primary in epoch ${group.epoch} without having given up the one before`);
  }

  #watch(node: RunningNode): void {
    if (this.#watched.has(node)) return;
    this.#watched.add(node);
    this.onStart?.(node);
    watchPushes(
      node,
      (id) => this.#sim.cluster.node(id),
      (what) => this.#report(what),
      (to) => this.onPush?.(node.id, to),
    );
    void node.failed.then((error) => {
      this.stopped.push({ id: node.id, error, atMs: this.#sim.world.time.nowMs });
      this.onStop?.(node.id);
    });
  }

  #report(what: string): void {
    // The first time counts; it mostly lasts for many events.
    if (this.#violated.has(what)) return;
    this.#violated.add(what);
    this.violations.push({ atMs: this.#sim.world.time.nowMs, what });
  }
}
