import { expect, it } from 'vitest';
import { inodeKey, direntKey } from './keys.ts';
import { RowCache } from './row-cache.ts';

const row = (number: number) => Buffer.of(number & 0xff, number >> 8);

it('keeps inode rows, forgets deleted ones and the oldest, and nothing of other kinds', () => {
  const cache = new RowCache();
  cache.learn(inodeKey(7), row(7));
  cache.learn(direntKey(7, 'name'), row(1));
  expect(cache.get(inodeKey(7))).toEqual(row(7));
  expect(cache.get(direntKey(7, 'name'))).toBeUndefined();
  cache.learn(inodeKey(7), row(8));
  expect(cache.get(inodeKey(7))).toEqual(row(8));
  cache.learn(inodeKey(7), undefined);
  expect(cache.size).toBe(0);
  for (let ino = 1; ino <= 40_000; ino++) cache.learn(inodeKey(ino), row(ino));
  expect(cache.size).toBeLessThanOrEqual(32_768);
  expect(cache.get(inodeKey(40_000))).toEqual(row(40_000));
  expect(cache.get(inodeKey(1))).toBeUndefined();
  cache.clear();
  expect(cache.size).toBe(0);
});

it('keeps no memory that rows were given in', () => {
  const cache = new RowCache();
  const given = row(0x1ff);
  cache.learn(inodeKey(7), given);
  given.fill(0);
  expect(cache.get(inodeKey(7))).toEqual(row(0x1ff));
});
