import { describe, expect, it } from 'vitest';
import type { BlockId, NodeId, PoolId } from '../ids.ts';
import { judge } from './block-census.ts';
import { FingerprintSet } from './fingerprints.ts';

const nodes = (...names: string[]): NodeId[] => names as NodeId[];
const order = nodes('a', 'b', 'c', 'd');
const judged = (held: string, { silent = '', wanted = 2, full = '' } = {}) =>
  judge({ order, held: nodes(...held), silent: nodes(...silent) }, wanted, (node) => full.includes(node));

describe('what is thought of a block', () => {
  it('is that all is well, when it is where it belongs, or where others stand in for it', () => {
    expect(judged('ab')).toEqual({ kind: 'good' });
    expect(judged('abd')).toEqual({ kind: 'good' });
    expect(judged('bc', { full: 'a' })).toEqual({ kind: 'good' });
    expect(judged('bc', { silent: 'a' })).toEqual({ kind: 'good' });
  });

  it('is what is wrong, and where a copy is missing', () => {
    expect(judged('')).toMatchObject({ kind: 'unreadable', missingAt: ['a', 'b'] });
    expect(judged('', { silent: 'ab' })).toMatchObject({
      kind: 'unreadable',
      text: expect.stringContaining('a, b are down'),
    });
    expect(judged('b')).toMatchObject({ kind: 'under-replicated', missingAt: ['a'] });
    expect(judged('b', { silent: 'a' })).toMatchObject({ kind: 'under-replicated', missingAt: ['c'] });
    expect(judged('bd')).toMatchObject({ kind: 'misplaced', missingAt: ['a'] });
    expect(judged('cd')).toMatchObject({ kind: 'misplaced', missingAt: ['a', 'b'] });
  });
});

describe('FingerprintSet', () => {
  it('has what was put in, by pool', () => {
    const set = new FingerprintSet();
    const id = (n: number): BlockId => {
      const bytes = new Uint8Array(32);
      new DataView(bytes.buffer).setUint32(n % 2 === 0 ? 0 : 4, n);
      return bytes as BlockId;
    };
    for (let n = 0; n < 5_000; n += 3) set.add(1 as PoolId, id(n));
    for (let n = 0; n < 5_000; n += 3) set.add(1 as PoolId, id(n));
    expect(set.count).toBe(1_667);
    for (let n = 0; n < 5_000; n++) expect(set.has(1 as PoolId, id(n))).toBe(n % 3 === 0);
    expect(set.has(2 as PoolId, id(3))).toBe(false);
  });
});
