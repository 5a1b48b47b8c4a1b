/**
 * Do the checkers bite? For each clause of the rules that can be switched off: under which troubles, and within how many
 * seeds, a run without it fails. `npm run sim -- --mutations` tries them all.
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
}

export const MUTATIONS: readonly Mutation[] = [
  { without: 'fencing', troubles: ['pause', 'kill', 'isolate'], seeds: 6 },
  { without: 'refusalWhenFenced', troubles: ['pause', 'oneWay', 'isolate', 'slowNetwork'], seeds: 10 },
  { without: 'leaseFromSending', troubles: ['pause', 'slowNetwork', 'slowDisk'], seeds: 60 },
  { without: 'lease', troubles: ['pause', 'isolate', 'oneWay'], seeds: 10 },
  {
    without: 'jointAcknowledgement',
    troubles: ['isolate', 'slowNetwork', 'ambush'],
    seeds: 60,
    minReplicas: 1,
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
    const { violations } = await runTrial({ seed, nodes, seconds, ...mutation });
    const [first] = violations;
    if (first !== undefined) return { seed, what: first.what };
  }
  return undefined;
}
