import { describe, expect, it } from 'vitest';
import { blake3 } from '@napi-rs/blake-hash';
import { CorruptionError, TooLargeError } from '../errors.ts';
import { blockIdToHex, type BlockId } from '../ids.ts';
import { BLOCK_MAX_BYTES, PAGE_BYTES } from '../limits.ts';
import { hashBlock, verifyBlock, verifyPageList, verifyPages } from './identity.ts';

/** The input of BLAKE3's own test vectors: 0, 1, .. 250, 0, 1, .. */
function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => index % 251);
}

describe('hashBlock', () => {
  // Ids name data on disks: these may never change.
  it.each([
    [new TextEncoder().encode('abc'), 'dc2f738d17b8a7ec03efdd0a95e8d3924b8e05965040ab6dcafd992994012bd4'],
    [pattern(PAGE_BYTES), 'fec8a2aca99336e034a41405b7fff21348bc4c3b7fbe6fd5d28adeab6b1482e5'],
    [pattern(PAGE_BYTES + 1), '2d2bca9b5ac4e27acc36e7d6ba81f4212deea66468b529a0fa4f66564b855aaf'],
    [pattern(BLOCK_MAX_BYTES), '816d2c6d2560f4cf9b30840e3ad312ef5601083c35d1cf4579e8fa14c1b6e077'],
  ])('gives the golden id (case %#)', (data, id) => {
    expect(blockIdToHex(hashBlock(data).id)).toBe(id);
  });

  it('uses BLAKE3 as published', () => {
    expect(blake3('abc').toString('hex')).toBe('6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85');
    const page = pattern(PAGE_BYTES);
    expect(Buffer.from(hashBlock(page).pageHashes).toString('hex')).toBe(
      '68d647e619a930e7b1082f74f334b0c65a315725569bdc123f0ee11881717bfe',
    );
  });

  it('refuses empty and too large blocks', () => {
    expect(() => hashBlock(new Uint8Array(0))).toThrow(TooLargeError);
    expect(() => hashBlock(new Uint8Array(BLOCK_MAX_BYTES + 1))).toThrow(TooLargeError);
  });
});

describe('verification', () => {
  const data = pattern(3 * PAGE_BYTES + 100);
  const { id, pageHashes } = hashBlock(data);
  const changed = (bytes: Uint8Array, at: number): Uint8Array => {
    const copy = bytes.slice();
    copy[at]! ^= 1;
    return copy;
  };

  it('accepts every run of pages', () => {
    verifyBlock(id, data);
    for (let first = 0; first <= 4; first++) {
      for (let last = first; last <= 4; last++) {
        verifyPages(
          id,
          data.length,
          pageHashes,
          first,
          data.subarray(first * PAGE_BYTES, Math.min(last * PAGE_BYTES, data.length)),
        );
      }
    }
  });

  it('refuses changed data, lists, ids, lengths and places', () => {
    expect(() => verifyBlock(id, changed(data, 5))).toThrow(CorruptionError);
    expect(() => verifyBlock(id, data.subarray(1))).toThrow(CorruptionError);
    expect(() => verifyPages(id, data.length, pageHashes, 1, changed(data, 0).subarray(0, PAGE_BYTES))).toThrow(
      CorruptionError,
    );
    expect(() => verifyPages(id, data.length, pageHashes, 3, changed(data.subarray(3 * PAGE_BYTES), 99))).toThrow(
      CorruptionError,
    );
    expect(() => verifyPages(id, data.length, changed(pageHashes, 127), 0, data)).toThrow(CorruptionError);
    expect(() => verifyPageList(changed(id, 0) as BlockId, pageHashes, data.length)).toThrow(CorruptionError);
    expect(() => verifyPageList(id, pageHashes, 3 * PAGE_BYTES)).toThrow(CorruptionError);
    expect(() => verifyPageList(id, pageHashes.subarray(1), data.length)).toThrow(CorruptionError);
    expect(() => verifyPageList(id, pageHashes, Number.NaN)).toThrow(CorruptionError);
    expect(() => verifyPages(id, data.length, pageHashes, 0, data.subarray(0, 100))).toThrow(CorruptionError);
    expect(() => verifyPages(id, data.length, pageHashes, 1, data)).toThrow(CorruptionError);
    expect(() => verifyPages(id, data.length, pageHashes, 9, data.subarray(0, 1))).toThrow(CorruptionError);
  });
});
