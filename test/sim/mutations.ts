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

interface Mutation {
  readonly without: keyof GroupRules;
  readonly troubles: readonly Trouble[];
  /** From 1 on. */
  readonly seeds: number;
  readonly minReplicas?: 1 | 2;
  readonly nodes?: number;
}

export const MUTATIONS: readonly Mutation[] = [
  { without: 'fencing', troubles: ['pause', 'kill', 'isolate'], seeds: 6 },
  { without: 'refusalWhenFenced', troubles: ['pause', 'oneWay', 'isolate', 'slowNetwork'], seeds: 10 },
  { without: 'leaseFromSending', troubles: ['pause', 'slowNetwork', 'slowDisk'], seeds: 60 },
  { without: 'lease', troubles: ['pause', 'isolate', 'oneWay'], seeds: 10 },
  {
    without: 'jointAcknowledgement',
    // A primary that has a vote knows the outcome before anybody else: here it mostly has none.
    troubles: ['isolate', 'oneWay', 'ambush', 'partition'],
    seeds: 80,
    minReplicas: 1,
    nodes: 8,
  },
  { without: 'followerEpoch', troubles: ['pause', 'isolate', 'kill', 'slowNetwork'], seeds: 15 },
  { without: 'reconciliation', troubles: ['kill', 'power', 'oneWay', 'slowNetwork', 'ambush'], seeds: 30 },
  { without: 'certainty', troubles: ['power', 'kill', 'isolate'], seeds: 60 },
  { without: 'ownEpoch', troubles: ['power', 'oneWay', 'kill', 'partition'], seeds: 10 },
];

/** The first seed that fails without the clause, and why; undefined: none did. */
export async function tryMutation(
  { seeds, ...mutation }: Mutation,
  nodes: number,
  seconds: number,
): Promise<{ readonly seed: number; readonly what: string } | undefined> {
  for (let seed = 1; seed <= seeds; seed++) {
    const { violations } = await runTrial({ nodes, ...mutation, seed, seconds });
    const [first] = violations;
    if (first !== undefined) return { seed, what: first.what };
  }
  return undefined;
}
