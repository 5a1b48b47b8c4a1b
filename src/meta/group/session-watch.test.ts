import { expect, it } from 'vitest';
import type { SessionId } from '../../ids.ts';
import { SessionWatch } from './session-watch.ts';

const session = (id: string, leaseMs: number) => ({ id: id as SessionId, leaseMs, label: '', openedNs: 0n });

it('a session ends a lease after it was last heard of, once', () => {
  const watch = new SessionWatch();
  const open = [session('a', 1_000), session('b', 500)];
  watch.heard('a' as SessionId, 0);
  expect(watch.expired(open, 100)).toEqual([]);
  watch.heard('a' as SessionId, 600);
  expect(watch.expired(open, 601)).toEqual(['b']);
  expect(watch.expired(open, 1_600)).toEqual([]);
  expect(watch.expired(open, 1_601)).toEqual(['a']);
  expect(watch.expired(open, 9_999)).toEqual([]);
});

it('a session that could not be ended is due again', () => {
  const watch = new SessionWatch();
  const open = [session('a', 100)];
  watch.expired(open, 0);
  expect(watch.expired(open, 101)).toEqual(['a']);
  watch.notEnded('a' as SessionId);
  expect(watch.expired(open, 102)).toEqual(['a']);
});

it('a new primary gives every session a full lease', () => {
  const watch = new SessionWatch();
  const open = [session('a', 100)];
  watch.heard('a' as SessionId, 0);
  watch.clear();
  expect(watch.expired(open, 1_000)).toEqual([]);
  expect(watch.expired(open, 1_100)).toEqual([]);
  expect(watch.expired(open, 1_101)).toEqual(['a']);
});

it('the time in which nobody could be heard does not count', () => {
  const watch = new SessionWatch();
  const open = [session('a', 100), session('b', 100)];
  watch.heard('a' as SessionId, 40);
  watch.heard('b' as SessionId, 560);
  watch.stalled(50, 560);
  expect(watch.expired(open, 650)).toEqual([]);
  expect(watch.expired(open, 651)).toEqual(['a']);
  expect(watch.expired(open, 661)).toEqual(['b']);
});
