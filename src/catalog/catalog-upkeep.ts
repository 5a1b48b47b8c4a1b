/**
 * Keeps the voters as voters.ts wants them, and out of placement who is down for too long (absence.ts): looks around every
 * second, and where a change is due, the first voter that seems up asks for it. What seems so may be wrong; the change is
 * compared and chosen like any other.
 */
import { nextAbsence } from './absence.ts';
import type { Env } from '../env.ts';
import { ConflictError } from '../errors.ts';
import type { NodeId } from '../ids.ts';
import type { Network } from '../net/types.ts';
import { inquire } from './confirm.ts';
import type { CatalogReplica } from './replica.ts';
import type { Catalog } from './types.ts';
import { reasonOf } from './voter.ts';
import { nextVoters } from './voters.ts';
import type { VoterView } from './voters.ts';

export interface CatalogUpkeepOptions {
  readonly env: Env;
  readonly network: Network;
  readonly catalog: CatalogReplica;
  readonly self: NodeId;
  readonly log: (text: string) => void;
}

const LOOK_INTERVAL_MS = 1_000;
/**
 * A voter that is down this long is replaced. Machines that are restarted or updated are back sooner, and replacing them would
 * only cost two changes; but every minute without it, one failure more may stop the catalog.
 */
export const VOTER_GONE_AFTER_MS = 300_000;
/** What a look waits for an answer. Less than the interval, so that looks do not pile up. */
const INQUIRY_TIMEOUT_MS = 800;
const PROPOSE_TIMEOUT_MS = 10_000;
/** An acceptance that nobody finished for this long: its proposer is gone. */
const UNFINISHED_AFTER_MS = 3_000;

/** Returns what ends it. */
export function keepCatalog(options: CatalogUpkeepOptions): () => Promise<void> {
  const upkeep = new CatalogUpkeep(options);
  return () => upkeep.close();
}

class CatalogUpkeep {
  readonly #o: CatalogUpkeepOptions;
  /** Since when each node has not been seen up. */
  readonly #downSinceMs = new Map<NodeId, number>();
  /** Since when each node has been seen up, or this one looks. */
  readonly #upSinceMs = new Map<NodeId, number>();
  /** Voters that said so when they were last asked. */
  readonly #unfit = new Set<NodeId>();
  #unfinishedSinceMs: number | undefined;
  #lookedIntoEpoch = 0;
  #stopped = false;
  #timer;

  constructor(options: CatalogUpkeepOptions) {
    this.#o = options;
    this.#timer = options.env.clock.setTimer(LOOK_INTERVAL_MS, () => this.#tick());
  }

  close(): Promise<void> {
    this.#stopped = true;
    this.#timer.cancel();
    return Promise.resolve();
  }

  #tick(): void {
    this.#look()
      .catch((error: unknown) => {
        if (!this.#stopped && !(error instanceof ConflictError)) {
          this.#o.log(`the catalog could not be kept up: ${reasonOf(error)}`);
        }
      })
      .finally(() => {
        if (!this.#stopped) this.#timer = this.#o.env.clock.setTimer(LOOK_INTERVAL_MS, () => this.#tick());
      });
  }

  async #look(): Promise<void> {
    const { catalog } = this.#o;
    const current = catalog.current();
    this.#watch(current);
    if (!(await this.#leads(current))) return;
    // Those that vote are asked how they are; of the others only whoever is about to become one.
    const asked = new Map<NodeId, boolean>();
    const accepted = await Promise.all(current.voters.map((voter) => this.#ask(voter, asked)));
    await this.#finishOld(current, Math.max(...accepted));
    for (;;) {
      const wanted = nextVoters(current, (node) => this.#viewOf(node, asked));
      if (this.#stopped) return;
      if (wanted === undefined) return await this.#keepPlacement(current);
      const added = wanted.find((node) => !current.voters.includes(node));
      if (added !== undefined && !asked.has(added)) {
        await this.#ask(added, asked);
        continue;
      }
      await catalog.propose(current.epoch, { kind: 'putVoters', voters: wanted }, PROPOSE_TIMEOUT_MS);
      return;
    }
  }

  async #keepPlacement(current: Catalog): Promise<void> {
    const nowMs = this.#o.env.clock.monotonicMs();
    const change = nextAbsence(current, (node) => {
      const downSinceMs = this.#downSinceMs.get(node);
      const sinceMs = downSinceMs ?? this.#upSinceMs.get(node) ?? nowMs;
      return { up: downSinceMs === undefined, forMs: nowMs - sinceMs };
    });
    if (change !== undefined) await this.#o.catalog.propose(current.epoch, change, PROPOSE_TIMEOUT_MS);
  }

  #watch(current: Catalog): void {
    const nowMs = this.#o.env.clock.monotonicMs();
    for (const { id } of current.nodes) {
      const [now, before] = this.#isUp(id)
        ? [this.#upSinceMs, this.#downSinceMs]
        : [this.#downSinceMs, this.#upSinceMs];
      before.delete(id);
      if (!now.has(id)) now.set(id, nowMs);
    }
    for (const since of [this.#downSinceMs, this.#upSinceMs]) {
      for (const id of since.keys()) if (!current.nodes.some((node) => node.id === id)) since.delete(id);
    }
  }

  #isUp(node: NodeId): boolean {
    return node === this.#o.self || this.#o.network.peer(node).state === 'up';
  }

  /** The first voter that is up and fit: one is enough, and two that ask at once would only be in each other's way. */
  async #leads({ voters }: Catalog): Promise<boolean> {
    const { catalog, self } = this.#o;
    if (catalog.voter?.votes !== true) return false;
    const asked = new Map<NodeId, boolean>();
    for (const voter of voters.slice(0, voters.indexOf(self))) {
      if (!this.#isUp(voter)) continue;
      await this.#ask(voter, asked);
      if (asked.get(voter) === true) return false;
    }
    return !this.#stopped;
  }

  /** Notes whether it is fit. The epoch that it has accepted and does not know to be chosen; 0: none. */
  async #ask(node: NodeId, asked: Map<NodeId, boolean>): Promise<number> {
    const { network, self, catalog } = this.#o;
    try {
      const own = node === self ? catalog.voter?.inquiry() : undefined;
      const { fit, acceptedEpoch } = own ?? (await inquire(network, node, INQUIRY_TIMEOUT_MS));
      asked.set(node, fit);
      if (fit) this.#unfit.delete(node);
      else this.#unfit.add(node);
      return acceptedEpoch;
    } catch {
      // It does not answer: nothing is known of its votes.
      asked.set(node, !this.#unfit.has(node));
      if (this.#isUp(node)) this.#downSinceMs.set(node, this.#o.env.clock.monotonicMs());
      return 0;
    }
  }

  #viewOf(node: NodeId, asked: ReadonlyMap<NodeId, boolean>): VoterView {
    const sinceMs = this.#downSinceMs.get(node);
    const downMs = sinceMs === undefined ? 0 : this.#o.env.clock.monotonicMs() - sinceMs;
    const fit = asked.get(node) ?? !this.#unfit.has(node);
    return { up: sinceMs === undefined, fit, gone: downMs > VOTER_GONE_AFTER_MS };
  }

  /** What a proposer that died left accepted somewhere is brought to its end, so that whoever wanted it can learn it. */
  async #finishOld(current: Catalog, acceptedEpoch: number): Promise<void> {
    const { catalog, env } = this.#o;
    const nowMs = env.clock.monotonicMs();
    if (acceptedEpoch <= current.epoch || acceptedEpoch === this.#lookedIntoEpoch) {
      this.#unfinishedSinceMs = undefined;
      return;
    }
    this.#unfinishedSinceMs ??= nowMs;
    if (nowMs - this.#unfinishedSinceMs < UNFINISHED_AFTER_MS) return;
    await catalog.finish(PROPOSE_TIMEOUT_MS);
    // Either it is chosen now, or a majority knows nothing of it and the next change decides.
    this.#lookedIntoEpoch = acceptedEpoch;
  }
}
