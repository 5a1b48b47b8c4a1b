/**
 * How a node has a change decided: by itself if it votes, else by asking one voter after the other, the one that worked
 * last first. The change keeps its name through all of it, so that it is made once however often it is asked for, and
 * that its maker can tell from the catalog whether it was made.
 */
import type { Env } from '../env.ts';
import {
  AuthError,
  ConflictError,
  FormatError,
  InvariantError,
  RemovedError,
  StateError,
  TatamiError,
  UnavailableError,
  UsageError,
} from '../errors.ts';
import type { NodeId } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS } from '../limits.ts';
import type { Network } from '../net/types.ts';
import { outcomeOf } from './document.ts';
import { catalogMethods } from './messages.ts';
import type { Proposal } from './messages.ts';
import { parseCatalog } from './schema.ts';
import type { Catalog } from './types.ts';
import { reasonOf } from './voter.ts';

export interface ProposeOptions {
  readonly env: Env;
  readonly network: Network;
  readonly self: NodeId;
  readonly current: () => Catalog;
  readonly adopt: (catalog: Catalog) => Promise<void>;
  readonly refreshFrom: (node: NodeId, timeoutMs: number) => Promise<void>;
  /** Decides here; undefined while this node does not vote. */
  readonly own: () => ((wanted: Proposal, deadlineMs: number) => Promise<Catalog>) | undefined;
  /** Throws once this node is stopping. */
  readonly checkOpen: () => void;
  readonly preferred: NodeId | undefined;
  readonly worked: (voter: NodeId) => void;
  readonly wanted: Proposal;
  readonly timeoutMs: number;
}

/** Pause after all voters have been asked in vain; grows to ten times that. */
const PAUSE_FIRST_MS = 100;
const PAUSE_MAX_MS = 1_000;

export async function proposeThroughVoters(o: ProposeOptions): Promise<Catalog> {
  const { clock, random } = o.env;
  const deadlineMs = clock.monotonicMs() + o.timeoutMs;
  const failures = new Map<NodeId, unknown>();
  for (let pauseMs = PAUSE_FIRST_MS; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS)) {
    o.checkOpen();
    for (const voter of inOrder(o)) {
      const leftMs = deadlineMs - clock.monotonicMs();
      if (leftMs <= 0) break;
      const known = knownOutcome(o);
      if (known !== undefined) return known;
      try {
        const catalog = await ask(o, voter, Math.min(leftMs, ATTEMPT_TIMEOUT_MS));
        o.worked(voter);
        return catalog;
      } catch (error) {
        if (isFinal(error)) throw error;
        failures.set(voter, error);
      }
    }
    const leftMs = deadlineMs - clock.monotonicMs();
    if (leftMs <= 0) throw noVoter(o.current(), failures);
    await clock.sleep(Math.min(leftMs, pauseMs - random.below(pauseMs / 2)));
  }
}

async function ask(o: ProposeOptions, voter: NodeId, timeoutMs: number): Promise<Catalog> {
  const own = voter === o.self ? o.own() : undefined;
  if (own !== undefined) return own(o.wanted, o.env.clock.monotonicMs() + timeoutMs);
  try {
    const reply = await o.network.call(voter, catalogMethods.propose, o.wanted, { timeoutMs });
    const catalog = parseCatalog((reply.header as { catalog?: unknown }).catalog);
    await o.adopt(catalog);
    return catalog;
  } catch (error) {
    // Whoever lost the comparison decides again from the newest catalog, so it is fetched first.
    if (error instanceof ConflictError) {
      await o.refreshFrom(voter, ATTEMPT_TIMEOUT_MS).catch(() => undefined);
      const known = knownOutcome(o);
      if (known !== undefined) return known;
    }
    throw error;
  }
}

/** The newest catalog known here if it tells that the change was made; undefined while that is open. */
function knownOutcome({ current, wanted }: ProposeOptions): Catalog | undefined {
  const newest = current();
  const outcome = outcomeOf(newest, wanted.expected, wanted.proposal);
  if (outcome === 'won') return newest;
  if (outcome === 'open') return undefined;
  throw new ConflictError(`the catalog is at epoch ${newest.epoch}, not ${wanted.expected}`, {
    info: { epoch: newest.epoch },
  });
}

/** This node if it votes, then the voter that worked last, then those that seem up, then the others. */
function inOrder({ current, self, own, preferred, network }: ProposeOptions): NodeId[] {
  const rank = (voter: NodeId): number => {
    if (voter === self) return 0;
    if (network.peer(voter).state === 'down') return 3;
    return voter === preferred ? 1 : 2;
  };
  const able = current().voters.filter((voter) => voter !== self || own() !== undefined);
  return able
    .map((voter) => ({ voter, at: rank(voter) }))
    .sort((a, b) => a.at - b.at)
    .map(({ voter }) => voter);
}

/** Errors that another voter would give as well. */
function isFinal(error: unknown): boolean {
  return (
    !(error instanceof TatamiError) ||
    [ConflictError, UsageError, FormatError, AuthError, InvariantError, StateError, RemovedError].some(
      (kind) => error instanceof kind,
    )
  );
}

function noVoter(catalog: Catalog, failures: ReadonlyMap<NodeId, unknown>): UnavailableError {
  // A voter that was reached knows best which of the others it misses.
  for (const error of failures.values()) if (error instanceof UnavailableError && error.info?.['voters']) throw error;
  const why = [...failures].map(([id, error]) => `${id}: ${reasonOf(error)}`).join('; ');
  return new UnavailableError(
    `the catalog cannot change: none of its voters (${catalog.voters.join(', ')}) decides on it (${why || 'none could be asked'})`,
    {
      remedy:
        'Start the voters that are down (`tatami status` shows them). Whether this change is made after all will show then.',
      info: { voters: catalog.voters },
    },
  );
}
