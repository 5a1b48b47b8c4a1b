/**
 * A voter that decides: takes changes one after the other, compares each with the newest catalog (compare-and-set), and
 * has it chosen by Paxos. Whatever others left half done is finished first, and then the change is compared again.
 */
import { wallMs } from '../env.ts';
import type { Env } from '../env.ts';
import { ConflictError, InvariantError, NotPrimaryError, StaleEpochError, UnavailableError } from '../errors.ts';
import type { NodeId } from '../ids.ts';
import type { Network } from '../net/types.ts';
import { applyChange, describeChange, outcomeOf } from './document.ts';
import type { Proposal } from './messages.ts';
import { compareBallots, majorityOf } from './paxos.ts';
import type { Ballot } from './paxos.ts';
import { Proposer } from './proposer.ts';
import { runRound } from './round.ts';
import type { RoundOutcome } from './round.ts';
import { Turns } from './turns.ts';
import type { Catalog } from './types.ts';
import { reasonOf } from './voter.ts';
import type { Voter } from './voter.ts';
import type { CatalogValue } from './votes.ts';

export interface DeciderOptions {
  readonly env: Env;
  readonly network: Network;
  readonly self: NodeId;
  readonly voter: Voter;
  readonly current: () => Catalog;
  /** Makes a chosen catalog durable here, then known here. */
  readonly adopt: (catalog: Catalog) => Promise<void>;
  /** Lets the others know. */
  readonly announce: () => void;
  readonly log: (text: string) => void;
}

/**
 * Of two that outbid each other one must be left alone for a whole decision (two round trips and two syncs, some 5 to 50 ms):
 * each waits a random time below a limit that doubles with each defeat.
 */
const BACKOFF_FIRST_MS = 20;
const BACKOFF_MAX_MS = 1_000;

export class Decider {
  readonly #o: DeciderOptions;
  readonly #proposer: Proposer<CatalogValue>;
  /** The highest ballot heard of. */
  #above: Ballot | null = null;
  /** One decision at a time. */
  readonly #turns: Turns;

  constructor(options: DeciderOptions) {
    this.#o = options;
    this.#proposer = new Proposer(options.self);
    this.#turns = new Turns(options.env.clock);
  }

  /** Resolves with the catalog that has the change. ConflictError: another one won. UnavailableError: outcome open. */
  decide(wanted: Proposal, deadlineMs: number): Promise<Catalog> {
    return this.#turns.take(deadlineMs, async () => {
      for (let defeats = 0; ;) {
        const current = this.#o.current();
        if (this.#isOver(current, wanted)) return current;
        const { change, proposal } = wanted;
        const atMs = wallMs(this.#o.env.clock);
        const value = { proposal, catalog: applyChange(current, change, proposal, atMs) };
        const outcome = await this.#try(current, value, deadlineMs);
        if (outcome.kind === 'chosen' && outcome.value.proposal === wanted.proposal) {
          this.#o.log(`catalog ${outcome.value.catalog.epoch}: ${describeChange(wanted.change)}`);
          return outcome.value.catalog;
        }
        if (outcome.kind === 'outbid') await this.#backOff(defeats++, deadlineMs);
      }
    });
  }

  /** Has chosen what may have been chosen already, and resolves with the newest catalog of the moment it was asked, or later. */
  finish(deadlineMs: number): Promise<Catalog> {
    return this.#turns.take(deadlineMs, async () => {
      for (let defeats = 0; ;) {
        const current = this.#o.current();
        const outcome = await this.#try(current, undefined, deadlineMs);
        if (outcome.kind === 'open' || outcome.kind === 'chosen') return this.#o.current();
        if (outcome.kind === 'outbid') await this.#backOff(defeats++, deadlineMs);
      }
    });
  }

  #isOver(current: Catalog, { expected, proposal }: Proposal): boolean {
    const outcome = outcomeOf(current, expected, proposal);
    if (outcome === 'won') return true;
    if (current.epoch < expected) {
      throw new StaleEpochError(`this voter has not got catalog ${expected} yet`, { info: { epoch: current.epoch } });
    }
    if (outcome === 'lost') {
      throw new ConflictError(`the catalog is at epoch ${current.epoch}, not ${expected}`, {
        info: { epoch: current.epoch },
      });
    }
    return false;
  }

  async #try(current: Catalog, value: CatalogValue | undefined, deadlineMs: number): Promise<RoundOutcome> {
    const { env, network, self, voter } = this.#o;
    if (!voter.votes) throw new NotPrimaryError(`node ${self} does not vote on the catalog`);
    if (env.clock.monotonicMs() >= deadlineMs) throw noMajority(current, new Map());
    const own = voter.promised;
    if (own !== null && (this.#above === null || compareBallots(own, this.#above) > 0)) this.#above = own;
    const instance = {
      epoch: (current.epoch + 1) as Catalog['epoch'],
      voters: current.voters,
      value,
      above: this.#above,
    };
    let outcome: RoundOutcome;
    try {
      outcome = await runRound({ env, network, self, voter, proposer: this.#proposer, instance, deadlineMs });
    } catch (error) {
      if (error instanceof InvariantError) voter.retire(`a safety rule was broken (${error.message})`);
      if (error instanceof InvariantError || error instanceof UnavailableError) throw error;
      throw new UnavailableError(`node ${self} cannot vote on the catalog: ${reasonOf(error)}`, { cause: error });
    }
    switch (outcome.kind) {
      case 'chosen':
        await this.#o.adopt(outcome.value.catalog);
        this.#o.announce();
        break;
      case 'ahead':
        await this.#o.adopt(outcome.catalog);
        break;
      case 'outbid':
        this.#above = outcome.by;
        break;
      case 'timeout':
        throw noMajority(current, outcome.missing);
      case 'open':
    }
    return outcome;
  }

  async #backOff(defeats: number, deadlineMs: number): Promise<void> {
    const { clock, random } = this.#o.env;
    const limitMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(defeats, 10));
    const leftMs = Math.max(0, deadlineMs - clock.monotonicMs());
    await clock.sleep(Math.min(1 + random.below(limitMs), leftMs));
  }
}

function noMajority(catalog: Catalog, missing: ReadonlyMap<NodeId, string>): UnavailableError {
  const { voters } = catalog;
  const names = [...missing.keys()].join(', ') || 'some';
  const why = [...missing].map(([id, reason]) => `${id}: ${reason}`).join('; ');
  return new UnavailableError(
    `the catalog cannot change: ${majorityOf(voters.length)} of its voters (${voters.join(', ')}) must agree, ` +
      `and ${names} did not${why === '' ? '' : ` (${why})`}`,
    {
      remedy: `Start the voters that are down (\`tatami status\` shows them). Whether this change is made after all will show then.`,
      info: { voters, missing: [...missing.keys()] },
    },
  );
}
