/**
 * The checkers bite: without each clause of the rules a seed fails that is in order with it. If it is not the known one any
 * more, the search takes longer: put the new one into mutations.ts (`npm run sim -- --mutations` tells it).
 */
import { describe, expect, it } from 'vitest';
import { ALL_RULES } from '../../src/meta/group/rules.ts';
import { MUTATIONS, NOT_NOTICED, trialOf, tryMutation } from './mutations.ts';
import { runTrial } from './trial.ts';

describe('without a clause of the rules', () => {
  it.each(MUTATIONS)('$without: a seed fails, which is in order with it', async (mutation) => {
    const found = await tryMutation(mutation, { knownFirst: true });
    if (found === undefined) throw new Error(`none of ${mutation.seeds} seeds fails without ${mutation.without}`);
    const { without: _, ...options } = trialOf(mutation);
    expect((await runTrial({ ...options, seed: found.seed })).violations).toEqual([]);
  });

  it('every clause is tried, or it is said why not', () => {
    const tried = MUTATIONS.map(({ without }) => without);
    expect(new Set([...tried, ...NOT_NOTICED])).toEqual(new Set(Object.keys(ALL_RULES)));
  });
});
