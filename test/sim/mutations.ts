/**
 * Do the checkers bite? For each clause of the rules that can be switched off: under which troubles, and within how many
 * seeds, a run without it fails. `npm run sim -- --mutations` tries them all.
 *
 * `takeoverWait` is not among them: by itself nothing fails without it. Grace is 1.5 leases, counted from what arrived last,
 * and after the epoch is given up nothing is acknowledged; so when a secondary proposes itself the lease has run out
 * already. The wait is a second net, for when one of the two has a hole.
 */
import type { GroupRules } from '../../src/meta/group/rules.ts';
import type { Trouble } from './nemesis.ts';
import { runTrial } from './trial.ts';
import type { TrialOptions } from './trial.ts';

const NODES = 5;
const SECONDS = 60;

export interface Mutation {
  readonly without: keyof GroupRules;
  readonly troubles: readonly Trouble[];
  /** Seeds to try: the first and the last. */
  readonly seeds: readonly [number, number];
  /** One of them that notices: what the tests run. A change of protocol or simulator may make another one of it. */
  readonly known: number;
  readonly minReplicas?: 1 | 2;
  readonly nodes?: number;
}

export const MUTATIONS: readonly Mutation[] = [
  { without: 'fencing', troubles: ['pause', 'kill', 'isolate'], seeds: [1, 6], known: 1 },
  { without: 'refusalWhenFenced', troubles: ['pause', 'oneWay', 'isolate', 'slowNetwork'], seeds: [1, 10], known: 1 },
  { without: 'leaseFromSending', troubles: ['ambush', 'slowDisk'], seeds: [1, 60], known: 1 },
  { without: 'lease', troubles: ['pause', 'isolate', 'oneWay'], seeds: [1, 10], known: 1 },
  {
    without: 'jointAcknowledgement',
    troubles: ['kill', 'ambush'],
    seeds: [1, 80],
    known: 1,
    minReplicas: 1,
  },
  { without: 'followerEpoch', troubles: ['pause', 'isolate', 'kill', 'slowNetwork'], seeds: [1, 15], known: 1 },
  {
    without: 'reconciliation',
    troubles: ['kill', 'power', 'oneWay', 'slowNetwork', 'ambush'],
    seeds: [1, 30],
    known: 1,
  },
  { without: 'certainty', troubles: ['power', 'kill', 'isolate'], seeds: [1, 60], known: 1 },
  { without: 'ownEpoch', troubles: ['power', 'oneWay', 'kill', 'partition'], seeds: [1, 10], known: 1 },
];

/** The mutation with nothing but the seed that is known to notice. */
export function knownOf(mutation: Mutation): Mutation {
  return { ...mutation, seeds: [mutation.known, mutation.known] };
}

/** Of a run with that seed; `without: undefined` is the run with all clauses. */
export function trialOf({ troubles, without, minReplicas, nodes }: Mutation): Omit<TrialOptions, 'seed'> {
  return {
    nodes: nodes ?? NODES,
    seconds: SECONDS,
    troubles,
    without,
    ...(minReplicas === undefined ? {} : { minReplicas }),
  };
}

/** The first seed that fails without the clause, and why; undefined: none did. */
export async function tryMutation(
  mutation: Mutation,
): Promise<{ readonly seed: number; readonly what: string; readonly options: Omit<TrialOptions, 'seed'> } | undefined> {
  const options = trialOf(mutation);
  const [first, last] = mutation.seeds;
  for (let seed = first; seed <= last; seed++) {
    const { violations } = await runTrial({ ...options, seed });
    const [violation] = violations;
    if (violation !== undefined) return { seed, what: violation.what, options };
  }
  return undefined;
}
