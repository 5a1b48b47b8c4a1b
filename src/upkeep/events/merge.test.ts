import { describe, expect, it } from 'vitest';
import type { NodeId } from '../../ids.ts';
import { eventInWords, memberEvent, parseEventRecord } from './event.ts';
import type { EventRecord } from './event.ts';
import { SeenEvents, mergeEvents } from './merge.ts';

const seen = (id: string, by: string, atMs: number, epoch = 1): EventRecord => ({
  id,
  kind: 'node-up',
  atMs,
  epoch,
  by,
});
const decided = (epoch: number, atMs: number): EventRecord => ({ id: `c${epoch}`, kind: 'pool-changed', atMs, epoch });

describe('merging histories', () => {
  it('tells each event once, as it was seen first', () => {
    const merged = mergeEvents([seen('a', 'n2', 20), seen('a', 'n1', 10), seen('b', 'n1', 5), seen('a', 'n3', 10)]);
    expect(merged.map(({ id, by }) => `${id} ${by}`)).toEqual(['b n1', 'a n1']);
  });

  it('keeps the order of the catalog, and what was seen under it behind it, though clocks differ', () => {
    // n2's clock is 100 ms behind that of the voter that decided 5; n9 decided 6 with a clock 50 ms behind.
    const merged = mergeEvents([
      decided(6, 1_950),
      decided(5, 2_000),
      seen('x', 'n2', 1_900, 5),
      seen('y', 'n3', 1_800, 4),
    ]);
    expect(merged.map(({ id }) => id)).toEqual(['y', 'c5', 'x', 'c6']);
    const late = seen('start', 'n1', 9_000, 2);
    expect(mergeEvents([late, decided(3, 5_000)]).map(({ id }) => id)).toEqual(['c3', 'start']);
  });

  it('knows again what was told, up to a bound', () => {
    const known = new SeenEvents(2);
    expect(['a', 'a', 'b', 'c', 'b', 'a'].map((id) => known.isNew(id))).toEqual([true, false, true, true, false, true]);
  });
});

describe('what a change of a view tells', () => {
  const [n1, n2] = ['n1' as NodeId, 'n2' as NodeId];
  const by = { by: n1, atMs: 1, epoch: 1 };
  const view = (node: NodeId, state: 'alive' | 'suspect' | 'dead' | 'left') => ({
    node,
    state,
    incarnation: 7,
    sinceMs: 0,
  });

  it('is the same event whoever sees it', () => {
    const [a, b] = [by, { ...by, by: 'n3' as NodeId }].map((who) => memberEvent(view(n2, 'dead'), 'suspect', who));
    expect(a).toMatchObject({ id: 'node-down/n2/7', kind: 'node-down', reason: 'failed' });
    expect(b?.id).toBe(a?.id);
  });

  it('of a node that is alive only if it was not, and of this node its start', () => {
    expect(memberEvent(view(n2, 'alive'), undefined, by)).toBeUndefined();
    expect(memberEvent(view(n2, 'alive'), 'alive', by)).toBeUndefined();
    expect(memberEvent(view(n2, 'alive'), 'suspect', by)?.kind).toBe('node-up');
    expect(memberEvent(view(n1, 'alive'), undefined, by)?.kind).toBe('node-up');
    expect(memberEvent(view(n1, 'alive'), 'alive', by)).toBeUndefined();
    expect(memberEvent(view(n1, 'left'), 'alive', by)).toMatchObject({ kind: 'node-down', reason: 'stopped' });
  });

  it('events of kinds that are not known here are shown, and nonsense is refused', () => {
    const later = parseEventRecord({ id: 'x', kind: 'node-painted', atMs: 1, epoch: 1, node: 'n1' });
    expect(eventInWords(later)).toBe('node-painted of n1');
    expect(() => parseEventRecord({ id: 'x', kind: 'node-up', atMs: 'now', epoch: 1 })).toThrow();
    expect(() => parseEventRecord({ id: 'x', kind: 'node-up', atMs: 1, epoch: 1, node: { deep: 1 } })).toThrow();
  });
});
