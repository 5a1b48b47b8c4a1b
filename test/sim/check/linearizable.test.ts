import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkLinearizable } from './linearizable.ts';
import type { Model } from './linearizable.ts';
import type { Operation } from './history.ts';
import { namesModel } from './names-model.ts';
import type { NamesAnswer, NamesCall } from './names-model.ts';
import { registerModel } from './register-model.ts';
import type { RegisterAnswer, RegisterCall } from './register-model.ts';

type Step<Call, Answer> = readonly [called: number, answered: number, call: Call, answer?: Answer];

function historyOf<Call, Answer>(steps: readonly Step<Call, Answer>[]): Operation<Call, Answer>[] {
  return steps.map(([called, answered, call, answer], index) => ({
    client: `c${index}`,
    call,
    answer,
    called,
    answered,
    calledMs: called,
    answeredMs: answered,
  }));
}

const write = (value: number): RegisterCall => ({ op: 'write', value });
const read: RegisterCall = { op: 'read' };
const register = (...steps: Step<RegisterCall, RegisterAnswer>[]): boolean =>
  checkLinearizable(registerModel, historyOf(steps)).ok;
const names = (...steps: Step<NamesCall, NamesAnswer>[]): boolean => checkLinearizable(namesModel, historyOf(steps)).ok;

describe('a register', () => {
  it.each<[string, boolean, Step<RegisterCall, RegisterAnswer>[]]>([
    ['nothing at all', true, []],
    [
      'a read after a write',
      true,
      [
        [0, 1, write(1), 1],
        [2, 3, read, 1],
      ],
    ],
    [
      'a stale read',
      false,
      [
        [0, 1, write(1), 1],
        [2, 3, read, 0],
      ],
    ],
    [
      'either value while it is written',
      true,
      [
        [0, 9, write(1), 1],
        [1, 2, read, 0],
        [3, 4, read, 1],
      ],
    ],
    [
      'a value that is seen and then not seen',
      false,
      [
        [0, 9, write(1), 1],
        [1, 2, read, 1],
        [3, 4, read, 0],
      ],
    ],
    [
      'two writes at once, in one order',
      true,
      [
        [0, 9, write(1), 1],
        [0.5, 8, write(2), 2],
        [10, 11, read, 1],
      ],
    ],
    [
      'in both orders',
      false,
      [
        [0, 9, write(1), 1],
        [0.5, 8, write(2), 2],
        [10, 11, read, 1],
        [12, 13, read, 2],
      ],
    ],
    [
      'a lost write',
      false,
      [
        [0, 1, write(1), 1],
        [2, 3, write(2), 2],
        [4, 5, read, 1],
      ],
    ],
    [
      'a write of unknown outcome that comes late',
      true,
      [
        [0, Infinity, write(1)],
        [1, 2, read, 0],
        [8, 9, read, 1],
      ],
    ],
    [
      'one that never comes',
      true,
      [
        [0, Infinity, write(1)],
        [1, 2, read, 0],
        [8, 9, read, 0],
      ],
    ],
    [
      'one that comes and goes',
      false,
      [
        [0, Infinity, write(1)],
        [1, 2, read, 1],
        [8, 9, read, 0],
      ],
    ],
    [
      'one that comes before it was called',
      false,
      [
        [1, 2, read, 1],
        [3, Infinity, write(1)],
      ],
    ],
  ])('%s: %s', (_name, ok, steps) => {
    expect(register(...steps)).toBe(ok);
  });

  it('tells how far it could be explained, and what could not come next', () => {
    const verdict = checkLinearizable(
      registerModel,
      historyOf([
        [0, 1, write(1), 1],
        [2, 3, read, 7],
      ]),
    );
    expect(verdict).toMatchObject({ ok: false, explained: [{ call: write(1) }], stuck: [{ call: read }], state: '1' });
  });
});

describe('a directory', () => {
  const create = (name: string, tag: number): NamesCall => ({ op: 'create', name, tag });
  const unlink = (name: string): NamesCall => ({ op: 'unlink', name });
  const lookup = (name: string): NamesCall => ({ op: 'lookup', name });
  const rename = (name: string, to: string, mode: 'replace' | 'noReplace' | 'exchange' = 'replace'): NamesCall => ({
    op: 'rename',
    name,
    to,
    mode,
  });
  const ok = { ok: true } as const;
  const none = { error: 'ENOENT' };
  const exists = { error: 'EEXIST' };
  const file = (tag: number, value = 0, nlink = 1): NamesAnswer => ({ file: { tag, value, nlink } });

  it.each<[string, boolean, Step<NamesCall, NamesAnswer>[]]>([
    [
      'two exclusive creations, one wins',
      true,
      [
        [0, 5, create('a', 1), ok],
        [1, 6, create('a', 2), exists],
      ],
    ],
    [
      'both win',
      false,
      [
        [0, 5, create('a', 1), ok],
        [1, 6, create('a', 2), ok],
      ],
    ],
    [
      'both lose',
      false,
      [
        [0, 5, create('a', 1), exists],
        [1, 6, create('a', 2), exists],
      ],
    ],
    [
      'both win around an unlink',
      true,
      [
        [0, 5, create('a', 1), ok],
        [1, 9, create('a', 2), ok],
        [2, 8, unlink('a'), ok],
      ],
    ],
    [
      'an unlink twice',
      false,
      [
        [0, 1, create('a', 1), ok],
        [2, 3, unlink('a'), ok],
        [4, 5, unlink('a'), ok],
      ],
    ],
    [
      'a creation that is lost',
      false,
      [
        [0, 1, create('a', 1), ok],
        [2, 3, lookup('a'), none],
      ],
    ],
    [
      'a rename that was done twice',
      false,
      [
        [0, 1, create('a', 1), ok],
        [2, 3, rename('a', 'b'), none],
        [4, 5, lookup('b'), file(1)],
      ],
    ],
    [
      'a rename over another',
      true,
      [
        [0, 1, create('a', 1), ok],
        [2, 3, create('b', 2), ok],
        [4, 5, rename('a', 'b'), ok],
        [6, 7, lookup('b'), file(1)],
        [8, 9, { op: 'getattr', tag: 2 }, none],
      ],
    ],
    [
      'an exchange',
      true,
      [
        [0, 1, create('a', 1), ok],
        [2, 3, create('b', 2), ok],
        [4, 5, rename('a', 'b', 'exchange'), ok],
        [6, 7, lookup('a'), file(2)],
      ],
    ],
    [
      'a rename that may not replace',
      false,
      [
        [0, 1, create('a', 1), ok],
        [2, 3, create('b', 2), ok],
        [4, 5, rename('a', 'b', 'noReplace'), ok],
      ],
    ],
    [
      'a link, and a value seen under both names',
      true,
      [
        [0, 1, create('a', 1), ok],
        [2, 3, { op: 'link', tag: 1, name: 'b' }, ok],
        [4, 5, { op: 'setattr', tag: 1, value: 9 }, ok],
        [6, 7, lookup('b'), file(1, 9, 2)],
      ],
    ],
    [
      'half a rename in a listing',
      false,
      [
        [0, 1, create('a', 1), ok],
        [2, 9, rename('a', 'b'), ok],
        [3, 4, { op: 'readdir' }, { entries: [] }],
      ],
    ],
  ])('%s: %s', (_name, linearizable, steps) => {
    expect(names(...steps)).toBe(linearizable);
  });
});

/** All orders that respect real time, one by one: what the search must agree with. */
function byHand<State, Call, Answer>(
  model: Model<State, Call, Answer>,
  all: readonly Operation<Call, Answer>[],
): boolean {
  const go = (state: State, left: readonly Operation<Call, Answer>[]): boolean => {
    if (left.every(({ answered }) => answered === Infinity)) return true;
    const firstAnswer = Math.min(...left.map(({ answered }) => answered));
    return left.some((next) => {
      if (next.called > firstAnswer) return false;
      const others = left.filter((other) => other !== next);
      return model.step(state, next.call, next.answer).some((then) => go(then, others));
    });
  };
  return go(model.initial, all);
}

describe('the search', () => {
  it('agrees with trying all orders', () => {
    const step = fc.record({
      at: fc.integer({ min: 0, max: 8 }),
      lasts: fc.option(fc.integer({ min: 1, max: 6 }), { freq: 6 }),
      value: fc.integer({ min: 0, max: 2 }),
      reads: fc.boolean(),
    });
    let yes = 0;
    let no = 0;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 7 }), (drawn) => {
        const steps = drawn.map(({ at, lasts, value, reads }, index): Step<RegisterCall, RegisterAnswer> => {
          const called = at + index / 100;
          const answered = lasts === null ? Infinity : called + lasts + 0.001;
          return lasts === null
            ? [called, answered, reads ? read : write(value)]
            : [called, answered, reads ? read : write(value), value];
        });
        const history = historyOf(steps);
        const expected = byHand(registerModel, history);
        if (expected) yes++;
        else no++;
        expect(checkLinearizable(registerModel, history).ok).toBe(expected);
      }),
      { numRuns: 3_000, seed: 7 },
    );
    expect(Math.min(yes, no)).toBeGreaterThan(100);
  });

  it('is quick with thousands of operations of several clients', () => {
    const steps: Step<RegisterCall, RegisterAnswer>[] = [];
    for (let index = 0; index < 5_000; index++) {
      steps.push([index, index + 3.5, index % 2 === 0 ? write(index) : read, index % 2 === 0 ? index : index - 1]);
    }
    expect(register(...steps)).toBe(true);
    expect(register(...steps, [6_000, 6_001, read, 17])).toBe(false);
  });
});
