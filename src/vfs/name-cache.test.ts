import { expect, it } from 'vitest';
import type { Ino } from '../ids.ts';
import { keyOf, NameCache } from './name-cache.ts';

const [directory, file] = [2 as Ino, 3 as Ino];
const bytes = (text: string) => Buffer.from(text);

it('a reply that an own change of the name overtook is not kept; changes of other names do not matter', () => {
  const names = new NameCache();
  const asked = names.stamp();
  names.change(directory, bytes('a'));
  for (const name of ['a', 'b']) names.learn(keyOf(directory, bytes(name)), file, 1, asked);
  expect(names.get(directory, bytes('a'))).toBeUndefined();
  expect(names.get(directory, bytes('b'))).toEqual({ ino: file, expiresMs: 1 });
  names.learn(keyOf(directory, bytes('a')), file, 2, names.stamp());
  expect(names.get(directory, bytes('a'))).toEqual({ ino: file, expiresMs: 2 });
});

it('changes are remembered up to a bound; a reply older than the oldest of them tells nothing', () => {
  const names = new NameCache();
  const asked = names.stamp();
  names.change(directory, bytes('first'));
  for (let index = 0; index < 20_000; index++) names.change(directory, bytes(`name-${index}`));
  for (const name of ['first', 'other']) {
    names.learn(keyOf(directory, bytes(name)), file, 1, asked);
    expect(names.get(directory, bytes(name))).toBeUndefined();
  }
  const later = names.stamp() - 100;
  names.learn(keyOf(directory, bytes('other')), file, 1, later);
  names.learn(keyOf(directory, bytes('name-19999')), file, 1, later);
  expect(names.get(directory, bytes('other'))).toBeDefined();
  expect(names.get(directory, bytes('name-19999'))).toBeUndefined();
});

it('the names that were learned last are kept, up to a bound', () => {
  const names = new NameCache();
  const known = (index: number) => names.get(directory, bytes(`name-${index}`)) !== undefined;
  for (let index = 0; index < 100_000; index++) names.learn(keyOf(directory, bytes(`name-${index}`)), file, 1, 0);
  const kept = Array.from({ length: 100_000 }, (_, index) => index).filter(known);
  expect(kept.length).toBeGreaterThan(50_000);
  expect(kept.length).toBeLessThanOrEqual(65_536);
  expect(kept.at(-1)).toBe(99_999);
});
