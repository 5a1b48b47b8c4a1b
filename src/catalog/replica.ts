/**
 * One process's copy of the catalog: kept newest by the epochs that ride on every message, durable on nodes, and the
 * way to propose changes: through this node's own vote if it has one, else through a voter that answers.
 *
 * Invariant: a catalog is announced to subscribers (and in our news) only once it is chosen and durable here.
 */
import { Buffer } from 'node:buffer';
import type { Env } from '../env.ts';
import { AuthError, ConflictError, UnavailableError, UsageError } from '../errors.ts';
import type { Epoch, NodeId } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS } from '../limits.ts';
import type { Channel, IncomingRequest, Network, News } from '../net/types.ts';
import { confirmNewest } from './confirm.ts';
import { Decider } from './decider.ts';
import { catalogMethods, parseProposal } from './messages.ts';
import type { Proposal } from './messages.ts';
import { proposeThroughVoters } from './propose.ts';
import { parseCatalog, parseChange } from './schema.ts';
import type { Catalog, CatalogChange, CatalogService } from './types.ts';
import { Voter } from './voter.ts';
import type { VoteStore } from './votes.ts';

/** Nodes asked at once for a newer catalog: some of them are up, whatever has failed. */
const LOOK_COUNT = 4;
const LOOK_TIMEOUT_MS = 1_000;

export interface CatalogReplicaOptions {
  readonly env: Env;
  readonly network: Network;
  readonly initial: Catalog;
  /** Absent on clients, which neither vote nor propose. */
  readonly node?: CatalogReplicaNode;
  readonly log: (text: string) => void;
}

export interface CatalogReplicaNode {
  readonly self: NodeId;
  readonly storeId: string;
  /** Makes a catalog durable. */
  readonly persist: (catalog: Catalog) => Promise<void>;
  readonly votes: VoteStore;
}

interface Voting {
  readonly self: NodeId;
  readonly voter: Voter;
  readonly decider: Decider;
}

export class CatalogReplica implements CatalogService {
  readonly #options: CatalogReplicaOptions;
  readonly #voting: Voting | undefined;
  readonly #subscribers = new Set<(catalog: Catalog) => void>();
  #current: Catalog;
  /** Serialises adoption. */
  #tail: Promise<unknown> = Promise.resolve();
  #pullingEpoch = 0;
  #nextPullMs = 0;
  /** The voter that worked last. */
  #preferred: NodeId | undefined;
  #closed = false;

  constructor(options: CatalogReplicaOptions) {
    this.#options = options;
    this.#current = options.initial;
    const { network } = options;
    network.handle(catalogMethods.get, (request) => this.#handleGet(request));
    // It brings its news with it, as every message does.
    network.handle(catalogMethods.announce, () => ({ header: null }));
    this.#tellNetwork();
    if (options.node === undefined) return;
    this.#voting = this.#openVoting(options.node);
    network.handle(catalogMethods.propose, (request) => this.#handlePropose(request));
    network.handle(catalogMethods.finish, (request) => this.#handleFinish(request));
  }

  #openVoting({ self, storeId, votes }: CatalogReplicaNode): Voting {
    const { env, network, log } = this.#options;
    const current = () => this.#current;
    const voter = new Voter({
      self,
      storeId,
      store: votes,
      network,
      current,
      pullFrom: (channel) => this.#pull(channel),
      log,
    });
    const adopt = (catalog: Catalog) => this.adopt(catalog);
    const announce = () => this.#announce(self);
    return { self, voter, decider: new Decider({ env, network, self, voter, current, adopt, announce, log }) };
  }

  current(): Catalog {
    return this.#current;
  }

  /** This node's vote; undefined on clients. */
  get voter(): Voter | undefined {
    return this.#voting?.voter;
  }

  subscribe(callback: (catalog: Catalog) => void): () => void {
    this.#subscribers.add(callback);
    return () => this.#subscribers.delete(callback);
  }

  /** Called with the news of every message: pulls the newer catalog from whoever has it. */
  heard(news: News, channel: Channel): void {
    if (news.catalogEpoch <= this.#current.epoch || this.#closed) return;
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
    const reply = await channel.call(catalogMethods.get, header, { timeoutMs: ATTEMPT_TIMEOUT_MS });
    await this.#adoptFrom(reply.header);
  }

  async #pullFromNode(node: NodeId, timeoutMs: number): Promise<void> {
    const header = { known: this.#current.epoch };
    const reply = await this.#options.network.call(node, catalogMethods.get, header, { timeoutMs });
    await this.#adoptFrom(reply.header);
  }

  async #adoptFrom(header: unknown): Promise<void> {
    const { catalog } = header as { catalog?: unknown };
    if (catalog !== undefined && catalog !== null) await this.adopt(parseCatalog(catalog));
  }

  /** Takes over a chosen catalog if it is newer than ours; of another cluster: ConflictError. */
  adopt(catalog: Catalog): Promise<void> {
    const run = this.#tail.then(() => this.#adoptNow(catalog));
    this.#tail = run.catch(() => undefined);
    return run;
  }

  async #adoptNow(catalog: Catalog): Promise<void> {
    if (catalog.epoch <= this.#current.epoch) return;
    if (this.#closed) throw stopping();
    if (catalog.clusterId !== this.#current.clusterId) {
      throw new ConflictError(`catalog of another cluster (${catalog.clusterId.slice(0, 8)})`);
    }
    await this.#options.node?.persist(catalog);
    const before = this.#current;
    this.#current = catalog;
    this.#tellNetwork();
    if (this.#voting !== undefined && !sameGroups(before, catalog)) this.#announceToClients();
    for (const callback of [...this.#subscribers]) callback(catalog);
  }

  #tellNetwork(): void {
    this.#options.network.setAddresses(new Map(this.#current.nodes.map((node) => [node.id, node.address])));
  }

  /** Everybody learns of the new epoch at once, instead of with the next message that comes by. */
  #announce(self: NodeId): void {
    const { network } = this.#options;
    for (const { id } of this.#current.nodes) {
      if (id === self) continue;
      // Whoever does not hear of it now hears of it with its next message.
      network.call(id, catalogMethods.announce, null, { timeoutMs: ATTEMPT_TIMEOUT_MS }).catch(() => undefined);
    }
  }

  /** A client that waits for a group to serve again would else look for a newer catalog only now and then. */
  #announceToClients(): void {
    for (const channel of this.#options.network.incoming()) {
      if (channel.remote.kind !== 'client') continue;
      channel.call(catalogMethods.announce, null, { timeoutMs: ATTEMPT_TIMEOUT_MS }).catch(() => undefined);
    }
  }

  async lookForNewer(silent: NodeId): Promise<void> {
    const { env } = this.#options;
    const self = this.#voting?.self;
    const others = this.#current.nodes.map((node) => node.id).filter((id) => id !== silent && id !== self);
    for (let left = others.length; left > LOOK_COUNT; left--) others.splice(env.random.below(others.length), 1);
    await Promise.all(others.map((node) => this.#pullFromNode(node, LOOK_TIMEOUT_MS).catch(() => undefined)));
  }

  async propose(expected: Epoch, change: CatalogChange, timeoutMs: number): Promise<Catalog> {
    const { env, network } = this.#options;
    const voting = this.#voting;
    if (voting === undefined) throw new UsageError('only nodes propose changes of the catalog');
    // Here, as where it is sent to: this node may decide on it itself, and all must be able to read what comes of it.
    parseChange(change);
    const proposal = Buffer.from(env.random.bytes(8)).toString('hex');
    const decide = (wanted: Proposal, deadlineMs: number) => voting.decider.decide(wanted, deadlineMs);
    return proposeThroughVoters({
      env,
      network,
      self: voting.self,
      current: () => this.#current,
      adopt: (catalog) => this.adopt(catalog),
      refreshFrom: (node, leftMs) => this.#pullFromNode(node, leftMs),
      own: () => (voting.voter.votes ? decide : undefined),
      checkOpen: () => {
        if (this.#closed) throw stopping();
      },
      preferred: this.#preferred,
      worked: (node) => (this.#preferred = node),
      wanted: { expected, change, proposal },
      timeoutMs,
    });
  }

  confirm(timeoutMs: number): Promise<Catalog> {
    const { env, network } = this.#options;
    return confirmNewest({
      env,
      network,
      current: () => this.#current,
      adopt: (catalog) => this.adopt(catalog),
      refreshFrom: (node, leftMs) => this.#pullFromNode(node, leftMs),
      own: this.#voting,
      timeoutMs,
    });
  }

  /** For a voter: has chosen what others left accepted, as far as a majority knows of it. */
  async finish(timeoutMs: number): Promise<Catalog> {
    if (this.#voting === undefined) throw new UsageError('a client does not vote');
    return this.#voting.decider.finish(this.#options.env.clock.monotonicMs() + timeoutMs);
  }

  /**
   * Nothing is voted, taken over or proposed any more. Resolves when the files of this node are left alone: whoever opens
   * the directory next must not have its votes overwritten by older ones.
   */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#voting?.voter.close();
    await this.#tail;
  }

  #handleGet(request: IncomingRequest) {
    const { known } = (request.header ?? {}) as { known?: unknown };
    const fresh = typeof known === 'number' && known >= this.#current.epoch;
    return { header: { catalog: fresh ? null : this.#current } };
  }

  async #handlePropose(request: IncomingRequest) {
    if (request.remote.kind !== 'node') throw new AuthError('only nodes propose changes of the catalog');
    const wanted = parseProposal(request.header);
    const { decider } = this.#voting as Voting;
    if (wanted.expected > this.#current.epoch) await this.#pull(request.channel);
    return { header: { catalog: await decider.decide(wanted, request.deadlineMs) } };
  }

  async #handleFinish(request: IncomingRequest) {
    const { decider } = this.#voting as Voting;
    return { header: { catalog: await decider.finish(request.deadlineMs) } };
  }
}

function sameGroups(a: Catalog, b: Catalog): boolean {
  return (
    a.groups.length === b.groups.length && a.groups.every((group, index) => group.epoch === b.groups[index]?.epoch)
  );
}

function stopping(): UnavailableError {
  return new UnavailableError('this node is stopping');
}

/** Each lost comparison is somebody else's success: dozens of nodes that join at once still all get their turn. */
const CONFLICTS_MAX_COUNT = 64;
/** Conflicts after which the catalog here is the same as before: it could not be fetched, or the change itself is refused. */
const UNCHANGED_MAX_COUNT = 2;

/**
 * Proposes until it wins: `decide` gets the newest catalog and returns the change, or undefined when none is needed.
 *
 * A ConflictError means that another change was chosen, so the loop ends unless others keep winning. Any other error is
 * the caller's: after UnavailableError the change may yet be chosen, so whoever tries again must decide anew, from the
 * catalog of that moment.
 */
export async function proposeUntilChosen(
  catalog: CatalogService,
  decide: (current: Catalog) => CatalogChange | undefined,
  timeoutMs: number,
  attempts = CONFLICTS_MAX_COUNT,
): Promise<Catalog> {
  for (let attempt = 1, unchanged = 0; ; attempt++) {
    const current = catalog.current();
    const change = decide(current);
    if (change === undefined) return current;
    try {
      return await catalog.propose(current.epoch, change, timeoutMs);
    } catch (error) {
      if (!(error instanceof ConflictError) || attempt === attempts) throw error;
      // Not the epoch was compared but what the change says: trying again does not help.
      if (catalog.current().epoch === current.epoch && ++unchanged > UNCHANGED_MAX_COUNT) throw error;
    }
  }
}
