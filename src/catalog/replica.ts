/**
 * One process's copy of the catalog: kept newest by the epochs that ride on every message, durable on nodes, and the
 * way to propose changes. Today the first voter alone writes; with Paxos the same interface stands before it.
 *
 * Invariant: a catalog is announced to subscribers (and in our news) only once it is durable here.
 */
import { ConflictError, NotPrimaryError, TatamiError, UnavailableError } from '../errors.ts';
import type { Env } from '../env.ts';
import type { Epoch, NodeId } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS } from '../limits.ts';
import type { Channel, IncomingRequest, Network, News } from '../net/types.ts';
import { applyChange } from './document.ts';
import { parseCatalog, parseChange } from './schema.ts';
import type { Catalog, CatalogChange, CatalogService } from './types.ts';

/** Nodes asked at once for a newer catalog: some of them are up, whatever has failed. */
const LOOK_COUNT = 4;
const LOOK_TIMEOUT_MS = 1_000;

export interface CatalogReplicaOptions {
  readonly env: Env;
  readonly network: Network;
  readonly initial: Catalog;
  /** Absent on clients. */
  readonly self?: NodeId;
  /** Makes a catalog durable; absent on clients, which start from a node's. */
  readonly persist?: (catalog: Catalog) => Promise<void>;
  readonly log: (text: string) => void;
}

export class CatalogReplica implements CatalogService {
  readonly #options: CatalogReplicaOptions;
  readonly #subscribers = new Set<(catalog: Catalog) => void>();
  #current: Catalog;
  /** Serialises adoption and proposals. */
  #tail: Promise<unknown> = Promise.resolve();
  #pullingEpoch = 0;
  #nextPullMs = 0;

  constructor(options: CatalogReplicaOptions) {
    this.#options = options;
    this.#current = options.initial;
    options.network.handle('catalog.get', (request) => this.#handleGet(request));
    options.network.handle('catalog.propose', (request) => this.#handlePropose(request));
    this.#tellNetwork();
  }

  current(): Catalog {
    return this.#current;
  }

  subscribe(callback: (catalog: Catalog) => void): () => void {
    this.#subscribers.add(callback);
    return () => this.#subscribers.delete(callback);
  }

  /** Called with the news of every message: pulls the newer catalog from whoever has it. */
  heard(news: News, channel: Channel): void {
    if (news.catalogEpoch <= this.#current.epoch) return;
    const now = this.#options.env.clock.monotonicMs();
    if (this.#pullingEpoch >= news.catalogEpoch && now < this.#nextPullMs) return;
    this.#pullingEpoch = news.catalogEpoch;
    this.#nextPullMs = now + 1_000;
    this.#pull(channel).catch((error: unknown) => {
      this.#pullingEpoch = 0;
      this.#options.log(`could not fetch catalog ${news.catalogEpoch}: ${String(error)}`);
    });
  }

  async #pull(channel: Channel): Promise<void> {
    const header = { known: this.#current.epoch };
    const reply = await channel.call('catalog.get', header, { timeoutMs: ATTEMPT_TIMEOUT_MS });
    const { catalog } = reply.header as { catalog?: unknown };
    if (catalog !== undefined && catalog !== null) await this.adopt(parseCatalog(catalog));
  }

  /** Takes over a chosen catalog if it is newer than ours; of another cluster: FormatError at the caller. */
  async adopt(catalog: Catalog): Promise<void> {
    await this.#serialised(() => this.#adoptNow(catalog));
  }

  async #adoptNow(catalog: Catalog): Promise<void> {
    if (catalog.epoch <= this.#current.epoch) return;
    if (catalog.clusterId !== this.#current.clusterId) {
      throw new ConflictError(`catalog of another cluster (${catalog.clusterId.slice(0, 8)})`);
    }
    await this.#options.persist?.(catalog);
    this.#current = catalog;
    this.#tellNetwork();
    for (const callback of [...this.#subscribers]) callback(catalog);
  }

  #tellNetwork(): void {
    this.#options.network.setAddresses(new Map(this.#current.nodes.map((node) => [node.id, node.address])));
  }

  async propose(expected: Epoch, change: CatalogChange, timeoutMs: number): Promise<Catalog> {
    const writer = this.#current.voters[0];
    if (writer === undefined) throw new UnavailableError('the catalog names no voter');
    if (writer === this.#options.self) return this.#decide(expected, change);
    try {
      const reply = await this.#options.network.call(writer, 'catalog.propose', { expected, change }, { timeoutMs });
      const catalog = parseCatalog((reply.header as { catalog?: unknown }).catalog);
      await this.adopt(catalog);
      return catalog;
    } catch (error) {
      // Whoever lost the comparison decides again from the newest catalog, so fetch it first.
      if (error instanceof ConflictError) await this.#refreshFrom(writer, timeoutMs);
      throw error;
    }
  }

  async #refreshFrom(node: NodeId, timeoutMs: number): Promise<void> {
    const reply = await this.#options.network.call(node, 'catalog.get', { known: this.#current.epoch }, { timeoutMs });
    const { catalog } = reply.header as { catalog?: unknown };
    if (catalog !== undefined && catalog !== null) await this.adopt(parseCatalog(catalog));
  }

  async lookForNewer(silent: NodeId): Promise<void> {
    const others = this.#current.nodes
      .map((node) => node.id)
      .filter((id) => id !== silent && id !== this.#options.self);
    const { random } = this.#options.env;
    for (let left = others.length; left > LOOK_COUNT; left--) others.splice(random.below(others.length), 1);
    const timeoutMs = LOOK_TIMEOUT_MS;
    await Promise.all(others.map((node) => this.#refreshFrom(node, timeoutMs).catch(() => undefined)));
  }

  async #decide(expected: Epoch, change: CatalogChange): Promise<Catalog> {
    return this.#serialised(async () => {
      if (this.#current.epoch !== expected) {
        throw new ConflictError(`the catalog is at epoch ${this.#current.epoch}, not ${expected}`, {
          info: { epoch: this.#current.epoch },
        });
      }
      const next = applyChange(this.#current, change);
      await this.#adoptNow(next);
      this.#options.log(`catalog ${next.epoch}: ${describeChange(change)}`);
      return next;
    });
  }

  #serialised<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#tail.then(work);
    this.#tail = run.catch(() => undefined);
    return run;
  }

  #handleGet(request: IncomingRequest) {
    const { known } = (request.header ?? {}) as { known?: unknown };
    const fresh = typeof known === 'number' && known >= this.#current.epoch;
    return { header: { catalog: fresh ? null : this.#current } };
  }

  async #handlePropose(request: IncomingRequest) {
    const { expected, change } = (request.header ?? {}) as { expected?: unknown; change?: unknown };
    const writer = this.#current.voters[0];
    if (writer !== this.#options.self || writer === undefined) {
      throw new NotPrimaryError('this node does not decide on the catalog', { info: { primary: writer ?? '' } });
    }
    if (typeof expected !== 'number') throw new TatamiError('ERR_USAGE', 'catalog.propose: expected is a number');
    return { header: { catalog: await this.#decide(expected as Epoch, parseChange(change)) } };
  }
}

/** Proposes until it wins: `decide` gets the newest catalog and returns the change, or undefined when none is needed. */
export async function proposeUntilChosen(
  catalog: CatalogService,
  decide: (current: Catalog) => CatalogChange | undefined,
  timeoutMs: number,
  attempts = 8,
): Promise<Catalog> {
  for (let attempt = 1; ; attempt++) {
    const current = catalog.current();
    const change = decide(current);
    if (change === undefined) return current;
    try {
      return await catalog.propose(current.epoch, change, timeoutMs);
    } catch (error) {
      if (!(error instanceof ConflictError) || attempt === attempts) throw error;
    }
  }
}

function describeChange(change: CatalogChange): string {
  switch (change.kind) {
    case 'putNode':
      return `node ${change.node.id} at ${change.node.address}`;
    case 'removeNode':
      return `node ${change.id} removed`;
    case 'putPool':
      return `pool ${change.pool.name}`;
    case 'putGroup': {
      const { group } = change;
      return `group ${group.id} epoch ${group.epoch}: primary ${group.primary}, secondary ${group.secondary ?? 'none'}`;
    }
  }
}
