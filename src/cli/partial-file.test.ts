import { expect, it } from 'vitest';
import { partialPath, partialPrefix } from './partial-file.ts';

it('a file that is not whole yet has a name that is not too long, whatever it becomes', () => {
  expect(partialPath('/a/name', '.put-', 7)).toBe('/a/name.put-7');
  expect(partialPath('name', '.put-', 7)).toBe('name.put-7');
  for (const name of ['n'.repeat(255), '畳'.repeat(85), '😀'.repeat(63)]) {
    const long = partialPath(`/a/${name}`, '.put-', 4_194_304).slice('/a/'.length);
    expect(Buffer.byteLength(long)).toBeLessThanOrEqual(255);
    expect(Buffer.byteLength(long)).toBeGreaterThan(245);
    expect(long.startsWith(partialPrefix(name, '.put-'))).toBe(true);
    expect(name.startsWith(long.slice(0, long.indexOf('.')))).toBe(true);
  }
  expect(partialPrefix('n'.repeat(256), '.put-')).toHaveLength(261);
});
