import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../test/support/fake-block-cluster.ts';
import type { CancelSignal } from '../cancel.ts';
import type { NodeId } from '../ids.ts';
import { raceHolders } from './holder-race.ts';

const [A, B] = ['a', 'b'] as unknown as [NodeId, NodeId];

interface Asked {
  readonly node: NodeId;
  readonly atMs: number;
  readonly signal: CancelSignal;
  readonly wait: (ms: number) => void;
  readonly answer: (value: string) => void;
}

function race(mayHedge = true) {
  const clock = new VirtualClock();
  const asked: Asked[] = [];
  const overtaken: NodeId[] = [];
  const done = raceHolders<string>({
    clock,
    nodes: [A, B],
    hedgeAfterMs: () => 50,
    mayHedge: () => mayHedge,
    overtaken: (node) => overtaken.push(node),
    attempt: (node, signal, wait) =>
      new Promise((answer) => asked.push({ node, atMs: clock.nowMs, signal, wait, answer })),
  });
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  return { clock, asked, overtaken, done, turn };
}

describe('a race of holders', () => {
  it('asks a second one after the time given, cancels the loser and names it', async () => {
    const { clock, asked, overtaken, done } = race();
    const startMs = clock.nowMs;
    clock.step();
    expect(asked.map(({ node, atMs }) => [node, atMs - startMs])).toEqual([
      [A, 0],
      [B, 50],
    ]);
    asked[1]?.answer('from b');
    expect(await done).toMatchObject({ ok: true, value: 'from b', node: B });
    expect(asked[0]?.signal.aborted).toBe(true);
    expect(overtaken).toEqual([A]);
  });

  it('takes the first answer, also of the slow one, who is then not overtaken', async () => {
    const { clock, asked, overtaken, done } = race();
    clock.step();
    asked[0]?.answer('from a');
    expect(await done).toMatchObject({ value: 'from a' });
    expect(asked[1]?.signal.aborted).toBe(true);
    expect(overtaken).toEqual([]);
  });

  it('asks nobody else without leave', () => {
    const { clock, asked } = race(false);
    clock.step();
    expect(asked).toHaveLength(1);
  });

  it('does not blame the holder for the time for which this process stood still', () => {
    const { clock, asked } = race();
    clock.nowMs += 300;
    clock.step();
    expect(asked).toHaveLength(1);
    clock.step();
    expect(asked).toHaveLength(2);
  });

  it('waits longer when the attempt says so', () => {
    const { clock, asked } = race();
    const startMs = clock.nowMs;
    asked[0]?.wait(1_000);
    clock.step();
    expect((asked[1]?.atMs ?? 0) - startMs).toBe(1_000);
  });
});
