import { describe, expect, it } from 'vitest';
import { KiB, MiB } from '../limits.ts';
import { blockSize, powerOfTwo } from './program-options.ts';

describe('a block size', () => {
  it.each([
    ['65536', 64 * KiB],
    ['64K', 64 * KiB],
    ['64k', 64 * KiB],
    ['128KiB', 128 * KiB],
    ['1 MiB', MiB],
    ['4M', 4 * MiB],
  ])('may be %s', (text, size) => expect(blockSize(text)).toBe(size));

  it.each(['', '0', '100000', '32K', '8M', '64', '1.5M', '64G', 'x'])('is not "%s"', (text) =>
    expect(() => blockSize(text)).toThrow('It is a power of two from 64K to 4M.'),
  );
});

describe('a power of two', () => {
  it('is within its bounds', () => {
    expect(powerOfTwo(1, 64)('16')).toBe(16);
    for (const text of ['0', '3', '128', '1e1', '-2', ''])
      expect(() => powerOfTwo(1, 64)(text)).toThrow(/from 1 to 64/);
  });
});
