import { describe, expect, it } from 'vitest';
import { ReplyTimes } from './reply-times.ts';

const MiB4 = 4 << 20;
const times = () => new ReplyTimes({ leastMs: 10, mostMs: 1_000, unknownMs: 150, factor: 1.5 });

describe('when a reply is slow', () => {
  it('is a fixed time while little is known', () => {
    const known = times();
    for (let i = 0; i < 7; i++) known.add('n1', MiB4, 20);
    expect(known.slowAfterMs('n2', MiB4)).toBe(150);
  });

  it('is measured by the peers, not by the slow one itself', () => {
    const known = times();
    for (let i = 0; i < 40; i++) {
      known.add('n1', MiB4, 20);
      known.add('n2', MiB4, 24);
      known.add('n3', MiB4, 900);
    }
    expect(known.slowAfterMs('n3', MiB4)).toBeCloseTo(24 * 1.5);
    expect(known.slowAfterMs('n1', MiB4)).toBe(1_000);
  });

  it('leaves out the slowest twentieth', () => {
    const known = times();
    for (let i = 0; i < 100; i++) known.add('n1', MiB4, i < 97 ? 20 : 500);
    expect(known.slowAfterMs('n2', MiB4)).toBeCloseTo(30);
  });

  it('grows with the size, from a floor', () => {
    const known = times();
    for (let i = 0; i < 20; i++) known.add('n1', MiB4, 68);
    expect(known.slowAfterMs('n2', MiB4)).toBeCloseTo(102);
    expect(known.slowAfterMs('n2', 2 << 20)).toBeCloseTo(54);
    expect(known.slowAfterMs('n2', 1)).toBe(10);
  });

  it('forgets what was long ago', () => {
    const known = times();
    for (let i = 0; i < 100; i++) known.add('n1', MiB4, 600);
    for (let i = 0; i < 128; i++) known.add('n1', MiB4, 20);
    expect(known.slowAfterMs('n2', MiB4)).toBeCloseTo(30);
  });

  it('compares a node without peers with itself', () => {
    const known = times();
    for (let i = 0; i < 20; i++) known.add('n1', MiB4, 20);
    expect(known.slowAfterMs('n1', MiB4)).toBeCloseTo(30);
  });
});
