import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../test/support/fake-block-cluster.ts';
import { MemoryDisk } from '../env-memory/disk.ts';
import { asBlockId, type NodeId, type PoolId } from '../ids.ts';
import { Handoff, type HandoffEntry, type PushOutcome } from './handoff.ts';

const POOL = 1 as PoolId;
const node = (name: string): NodeId => name as NodeId;

function entry(target: string, fill: number, generation = 0): HandoffEntry {
  return { node: node(target), pool: POOL, id: asBlockId(new Uint8Array(32).fill(fill)), generation };
}

interface World {
  readonly disk: MemoryDisk;
  readonly clock: VirtualClock;
  readonly pushed: string[];
  outcome: (entry: HandoffEntry) => PushOutcome;
}

function world(): World {
  return { disk: new MemoryDisk(), clock: new VirtualClock(), pushed: [], outcome: () => 'done' };
}

async function open(w: World): Promise<Handoff> {
  return await Handoff.open({
    kv: await w.disk.openKv('/kv'),
    clock: w.clock,
    push: async (e, isRetry) => {
      w.pushed.push(`${e.node} ${e.id[0]} ${e.generation}${isRetry ? ' retry' : ''}`);
      await Promise.resolve();
      return w.outcome(e);
    },
  });
}

const turns = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
};

describe('Handoff', () => {
  it('pushes what was added once told, each once', async () => {
    const w = world();
    const handoff = await open(w);
    await handoff.add(Array.from({ length: 150 }, (_, i) => entry(i % 2 === 0 ? 'a' : 'b', i)));
    expect(handoff.pendingCount()).toBe(150);
    expect(w.pushed).toEqual([]);
    handoff.notify(node('a'));
    handoff.notify(node('b'));
    await turns();
    expect(handoff.pendingCount()).toBe(0);
    expect(new Set(w.pushed).size).toBe(150);
    expect(w.pushed).toHaveLength(150);
    await handoff.close();
  });

  it('keeps one target from holding up another, and backs off', async () => {
    const w = world();
    w.outcome = (e) => (e.node === 'a' ? 'targetUnavailable' : 'done');
    const handoff = await open(w);
    await handoff.add([entry('a', 1), entry('a', 2), entry('b', 3)]);
    handoff.notify(node('a'));
    handoff.notify(node('b'));
    await turns();
    expect(handoff.pendingCount()).toBe(2);
    const before = w.pushed.length;
    const startMs = w.clock.nowMs;
    for (let i = 0; i < 20; i++) {
      // New work for an absent target does not cut its back-off short.
      handoff.notify(node('a'));
      w.clock.step();
      await turns();
    }
    expect(w.pushed.length - before).toBeLessThanOrEqual(40);
    expect(w.clock.nowMs - startMs).toBeGreaterThan(100_000);
    w.outcome = () => 'done';
    handoff.wake(node('a'));
    await turns();
    expect(handoff.pendingCount()).toBe(0);
    await handoff.close();
  });

  it('survives a crash of the machine right after add', async () => {
    const w = world();
    const first = await open(w);
    await first.add([entry('a', 1, 5)]);
    w.disk.crash();
    const second = await open(w);
    expect(second.pendingCount()).toBe(1);
    await turns();
    expect(w.pushed).toEqual(['a 1 5 retry']);
    expect(second.pendingCount()).toBe(0);
    await second.close();
  });

  it('owes the copy with the highest stamp that anybody asked for', async () => {
    const w = world();
    const handoff = await open(w);
    // Of one write, and of one after the other.
    await Promise.all([handoff.add([entry('a', 1, 5)]), handoff.add([entry('a', 1, 2)])]);
    await handoff.add([entry('a', 1, 3), entry('a', 2, 1)]);
    await handoff.add([entry('a', 2, 4)]);
    expect(handoff.pendingCount()).toBe(2);
    handoff.notify(node('a'));
    await turns();
    expect(w.pushed).toEqual(['a 1 5', 'a 2 4']);
    expect(handoff.pendingCount()).toBe(0);
    // What is done is forgotten: it says nothing about the next put.
    await handoff.add([entry('a', 1, 2)]);
    handoff.notify(node('a'));
    await turns();
    expect(w.pushed.slice(2)).toEqual(['a 1 2']);
    await handoff.close();
  });

  it.each([
    // Collected: nothing is left to push. Then it is put again.
    ['though there was nothing to push', entry('a', 1), entry('a', 1), ['a 1 0', 'a 1 0']],
    ['with a newer generation', entry('a', 1, 5), entry('a', 1, 6), ['a 1 5', 'a 1 6']],
  ])('pushes again what was added anew while it was being pushed, %s', async (_, first, again, pushed) => {
    const w = world();
    const handoff = await open(w);
    await handoff.add([first]);
    let added: Promise<void> | undefined;
    w.outcome = () => {
      added ??= handoff.add([again]);
      return 'done';
    };
    handoff.notify(node('a'));
    await turns();
    await added;
    handoff.notify(node('a'));
    await turns();
    expect(w.pushed).toEqual(pushed);
    expect(handoff.pendingCount()).toBe(0);
    await handoff.close();
  });
});
