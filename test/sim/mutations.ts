/**
 * Do the checkers bite? For each clause of the rules that can be switched off: under which troubles, and within how many
 * seeds, a run without it fails. `npm run sim -- --mutations` tries them all.
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
  /** Seeds to try, from 1 on. */
  readonly seeds: number;
  /** The first one that notices, as of the latest change of protocol or simulator; tried first. */
  readonly known: number;
  readonly minReplicas?: 1 | 2;
  readonly nodes?: number;
}

export const MUTATIONS: readonly Mutation[] = [
  { without: 'fencing', troubles: ['pause', 'kill', 'isolate'], seeds: 20, known: 2 },
  { without: 'refusalWhenFenced', troubles: ['pause', 'oneWay', 'isolate', 'slowNetwork'], seeds: 20, known: 1 },
  { without: 'leaseFromSending', troubles: ['ambush', 'slowDisk'], seeds: 40, known: 10 },
  { without: 'lease', troubles: ['pause', 'isolate', 'oneWay'], seeds: 20, known: 1 },
  {
    without: 'jointAcknowledgement',
    troubles: ['kill', 'cutOffProposer'],
    seeds: 40,
    known: 26,
    minReplicas: 1,
  },
  { without: 'followerEpoch', troubles: ['pause', 'isolate', 'kill', 'slowNetwork'], seeds: 20, known: 1 },
  {
    without: 'reconciliation',
    troubles: ['kill', 'power', 'oneWay', 'slowNetwork', 'ambush'],
    seeds: 60,
    known: 12,
  },
  { without: 'certainty', troubles: ['power', 'kill', 'isolate'], seeds: 60, known: 8 },
  { without: 'ownEpoch', troubles: ['power', 'oneWay', 'kill', 'partition'], seeds: 20, known: 1 },
];

/**
 * By itself nothing fails without `takeoverWait`. Grace is 1.5 leases, counted from what arrived last, and after the epoch
 * is given up nothing is acknowledged; so when a secondary proposes itself the lease has run out already. The wait is a
 * second net, for when one of the two has a hole.
 *
 * Nor without `handOverStops`: a primary that has handed over pushes nothing more, and so acknowledges nothing either, and it
 * hears of the change before a client gets to the next one.
 */
export const NOT_NOTICED: readonly (keyof GroupRules)[] = ['takeoverWait', 'handOverStops'];

/** Of a run with that seed. */
export function trialOf({ troubles, without, minReplicas, nodes }: Mutation): Omit<TrialOptions, 'seed'> {
  return {
    nodes: nodes ?? NODES,
    seconds: SECONDS,
    troubles,
    without,
    ...(minReplicas === undefined ? {} : { minReplicas }),
  };
}

export interface Noticed {
  readonly seed: number;
  readonly what: string;
  readonly options: Omit<TrialOptions, 'seed'>;
}

/**
 * A seed that fails without the clause, and why; undefined: none did. `knownFirst`: the one that is known, and only where
 * it does not notice any more the others.
 */
export async function tryMutation(mutation: Mutation, { knownFirst = false } = {}): Promise<Noticed | undefined> {
  const options = trialOf(mutation);
  const all = Array.from({ length: mutation.seeds }, (_, index) => index + 1);
  for (const seed of knownFirst ? [mutation.known, ...all] : all) {
    const { violations } = await runTrial({ ...options, seed, untilViolated: true });
    const [violation] = violations;
    if (violation !== undefined) return { seed, what: violation.what, options };
  }
  return undefined;
}
