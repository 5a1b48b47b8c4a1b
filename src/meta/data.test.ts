/** One file edited at random: the table's rows are what the pure extent maths (extents.ts) says, by point or range reads. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { KvRange } from '../env.ts';
import { FsError } from '../errors.ts';
import { asBlockId, ROOT_INO, type Ino, type PoolId } from '../ids.ts';
import { BLOCK_MAX_BYTES, FILE_MAX_BYTES, FRAME_HEADER_MAX_BYTES } from '../limits.ts';
import { digestExtents } from './extent-digest.ts';
import { clip, extentEnd, overwrite, punch, shift, storedBytes, touches, truncate } from './extents.ts';
import { LocalMetaClient } from './local-client.ts';
import { MetaStore } from './meta-store.ts';
import { bytes, inline, openLocal, OWNER, TestKv } from './testing.ts';
import type { Extent, Mutation, SetAttr } from './types.ts';

interface Edit {
  readonly kind: 'commit' | 'clone' | 'compact' | 'punch' | 'truncate' | 'flush' | 'read';
  readonly offset: number;
  readonly length: number;
  readonly block: boolean;
}

const edit: fc.Arbitrary<Edit> = fc.record({
  kind: fc.constantFrom(
    'commit',
    'commit',
    'commit',
    'commit',
    'clone',
    'compact',
    'compact',
    'punch',
    'truncate',
    'flush',
    'read',
    'read',
  ),
  offset: fc.oneof(
    fc.nat(30).map((n) => n * 10),
    fc.nat(300),
  ),
  length: fc.oneof(fc.constant(10), fc.integer({ min: 1, max: 80 })),
  block: fc.boolean(),
});

function made({ offset, length, block }: Edit, n: number): Extent {
  if (!block) return inline(offset, new Uint8Array(length).fill(n));
  const id = asBlockId(new Uint8Array(32).fill(n));
  return { kind: 'block', offset, lengthBytes: length, pool: 1 as PoolId, id, blockOffset: 3, blockBytes: length + 5 };
}

const plain = (extents: readonly Extent[]): unknown =>
  extents.map((one) => [
    one.offset,
    one.lengthBytes,
    one.kind === 'inline' ? [...one.data] : [one.id[0], one.blockOffset],
  ]);

describe('a clone', () => {
  it('replaces the range, holes included, and is refused as a write would be', async () => {
    const { client } = await openLocal();
    const make = { op: 'make', parent: ROOT_INO, name: bytes('f'), type: 'file', mode: 0o644 } as const;
    const { attr: made } = await client.mutate({ ...make, owner: OWNER, rdev: 0, exclusive: true });
    const { ino } = made!;
    const clone = { op: 'clone', ino, offset: 10, lengthBytes: 30 } as const;
    await client.mutate({
      op: 'commit',
      ino,
      extents: [inline(0, bytes('x'.repeat(30)))],
      growToBytes: 0,
      mtimeNs: 'now',
    });
    const { attr } = await client.mutate({ ...clone, extents: [inline(20, bytes('abc')), inline(23, bytes('de'))] });
    expect(attr).toMatchObject({ sizeBytes: 40, version: made!.version + 2, storedBytes: 15 });
    expect(attr!.mtimeNs).toBe(attr!.ctimeNs);
    const all = { op: 'extents', ino, offset: 0, lengthBytes: 100, limit: 10 } as const;
    expect(plain((await client.query<'extents'>(all)).extents)).toEqual(
      plain([inline(0, bytes('x'.repeat(10))), inline(20, bytes('abc')), inline(23, bytes('de'))]),
    );
    const refused = async (change: Partial<Extract<Mutation, { op: 'clone' }>>, code: string): Promise<void> => {
      await expect(client.mutate({ ...clone, extents: [], ...change })).rejects.toMatchObject({ code });
    };
    await refused({ ino: ROOT_INO }, 'EISDIR');
    await refused({ ino: 9_999 as Ino }, 'ENOENT');
    await refused({ lengthBytes: 0 }, 'EINVAL');
    await refused({ offset: FILE_MAX_BYTES - 29 }, 'EFBIG');
    await refused({ extents: [inline(9, bytes('ab'))] }, 'EINVAL');
    await refused({ extents: [inline(39, bytes('ab'))] }, 'EINVAL');
    await refused({ extents: [inline(15, bytes('ab')), inline(16, bytes('ab'))] }, 'EINVAL');
    await refused({ extents: [inline(17, bytes('ab')), inline(15, bytes('ab'))] }, 'EINVAL');
    expect((await client.query<'getattr'>({ op: 'getattr', ino })).attr).toEqual(attr);
  });
});

describe('the times of a commit', () => {
  const SECOND = 1_000_000_000n;
  /** A file is made at 1,000 s, is given times if `set` says so, and what was written at `writtenS` is committed at `nowS`. */
  const timesOf = async (
    writtenS: bigint,
    nowS: bigint,
    { set, ctimeToo = true }: { set?: SetAttr; ctimeToo?: boolean } = {},
  ): Promise<readonly [bigint, bigint]> => {
    let nowNs = 1_000n * SECOND;
    const store = await MetaStore.open({ kv: new TestKv() });
    const client = await LocalMetaClient.open({ store, wallNs: () => nowNs });
    const make = { op: 'make', parent: ROOT_INO, name: bytes('f'), type: 'file', mode: 0o644 } as const;
    const { ino } = (await client.mutate({ ...make, owner: OWNER, rdev: 0, exclusive: true })).attr!;
    if (set !== undefined) await client.mutate({ op: 'setattr', ino, set });
    nowNs = nowS * SECOND;
    const extents = [inline(0, bytes('x'))];
    const commit = { op: 'commit', ino, extents, growToBytes: 1, mtimeNs: writtenS * SECOND } as const;
    const { mtimeNs, ctimeNs } = (await client.mutate(ctimeToo ? { ...commit, ctimeToo } : commit)).attr!;
    return [mtimeNs / SECOND, ctimeNs / SECOND];
  };

  it.each([
    ['are those of the writes, as told before it', [1_003n, 1_005n], [1_003n, 1_003n]],
    ["are those of the writes by a clock somewhat ahead of the primary's", [1_009n, 1_005n], [1_009n, 1_009n]],
    ['are the mtime before and the ctime of arrival by a clock that is behind', [990n, 1_005n], [1_000n, 1_005n]],
    ['are those of arrival after a long time, but for the mtime', [1_003n, 1_064n], [1_003n, 1_064n]],
    ['are those of arrival by a clock far ahead', [1_066n, 1_005n], [1_005n, 1_005n]],
  ] as const)('%s', async (_what, [writtenS, nowS], expected) => {
    expect(await timesOf(writtenS, nowS)).toEqual(expected);
  });

  it('are the mtime of the writes and the ctime of arrival where the client does not say more', async () => {
    expect(await timesOf(1_003n, 1_005n, { ctimeToo: false })).toEqual([1_003n, 1_005n]);
    expect(await timesOf(1_009n, 1_005n, { ctimeToo: false })).toEqual([1_009n, 1_009n]);
  });

  it('put an end to an mtime that a user has set', async () => {
    expect(await timesOf(1_003n, 1_005n, { set: { mtimeNs: 9_000n * SECOND } })).toEqual([1_003n, 1_003n]);
    expect(await timesOf(1_003n, 1_005n, { set: { mtimeNs: 5n * SECOND } })).toEqual([1_003n, 1_003n]);
  });
});

describe('a compaction', () => {
  const commit = { op: 'commit', growToBytes: 0, mtimeNs: 5n } as const;
  const start = async () => {
    const { client } = await openLocal();
    const make = { op: 'make', parent: ROOT_INO, name: bytes('f'), type: 'file', mode: 0o644 } as const;
    const { ino } = (await client.mutate({ ...make, owner: OWNER, rdev: 0, exclusive: true })).attr!;
    const parts = [inline(10, bytes('abc')), inline(13, bytes('def'))];
    await client.mutate({ ...commit, ino, extents: [inline(0, bytes('0123')), ...parts, inline(16, bytes('xyz'))] });
    const list = async () => {
      const found = await client.query<'extents'>({ op: 'extents', ino, offset: 0, lengthBytes: 100, limit: 10 });
      return plain(found.extents);
    };
    const compact = { op: 'compact', ino, extent: inline(10, bytes('abcdef')), digest: digestExtents(parts) } as const;
    return { client, ino, list, compact };
  };

  it('changes nothing but how the bytes are stored', async () => {
    const { client, ino, list, compact } = await start();
    const { attr: before } = await client.query<'getattr'>({ op: 'getattr', ino });
    const { attr } = await client.mutate(compact);
    expect(attr).toEqual({ ...before, version: before.version + 1 });
    const expected = [inline(0, bytes('0123')), inline(10, bytes('abcdef')), inline(16, bytes('xyz'))];
    expect(await list()).toEqual(plain(expected));
  });

  it.each([
    ['overwritten', { ...commit, extents: [inline(11, bytes('B'))] }],
    ['overwritten with as many bytes', { ...commit, extents: [inline(13, bytes('deF'))] }],
    ['cut off', { op: 'setattr', set: { sizeBytes: 15 } }],
    ['a hole in part', { op: 'punch', offset: 12, lengthBytes: 1 }],
    ['a hole', { op: 'punch', offset: 10, lengthBytes: 6 }],
    ['stored in other pieces', { ...commit, extents: [inline(12, bytes('cd'))] }],
  ])('is refused if the range was %s since it was read', async (_what, change) => {
    const { client, ino, list, compact } = await start();
    const { attr } = await client.mutate({ ...change, ino } as Mutation);
    const before = await list();
    await expect(client.mutate(compact)).rejects.toMatchObject({ code: 'EAGAIN' });
    expect(await list()).toEqual(before);
    expect((await client.query<'getattr'>({ op: 'getattr', ino })).attr).toEqual(attr);
  });

  it('is done though the file was written beside the range', async () => {
    const { client, ino, list, compact } = await start();
    await client.mutate({ ...commit, ino, extents: [inline(6, bytes('WXYZ')), inline(16, bytes('Q'))] });
    await client.mutate(compact);
    expect(await list()).toEqual(
      plain([
        ...[inline(0, bytes('0123')), inline(6, bytes('WXYZ')), inline(10, bytes('abcdef'))],
        ...[inline(16, bytes('Q')), inline(17, bytes('yz'))],
      ]),
    );
  });

  it('fills no hole, is no longer than a block, and is of a file', async () => {
    const { client, ino, list, compact } = await start();
    const before = await list();
    const refused = async (change: Partial<Extract<Mutation, { op: 'compact' }>>, code: string): Promise<void> => {
      await expect(client.mutate({ ...compact, ...change })).rejects.toMatchObject({ code });
    };
    const around = [inline(2, bytes('23')), inline(10, bytes('abc'))];
    await refused({ extent: inline(2, bytes('23......abc')), digest: digestExtents(around) }, 'EINVAL');
    await refused({ extent: inline(30, bytes('a')), digest: digestExtents([]) }, 'EINVAL');
    const long = {
      ...(made({ kind: 'compact', offset: 0, length: 10, block: true }, 1) as Extent & { kind: 'block' }),
    };
    const lengthBytes = BLOCK_MAX_BYTES + 1;
    await refused({ extent: { ...long, lengthBytes, blockBytes: lengthBytes + 3 } }, 'EINVAL');
    await refused({ ino: ROOT_INO }, 'EISDIR');
    await refused({ ino: 9_999 as Ino }, 'ENOENT');
    expect(await list()).toEqual(before);
    expect(ino).toBe(compact.ino);
  });
});

/** Counts range reads. */
class ScanCountingKv extends TestKv {
  scanCount = 0;

  override scanPages(range: KvRange): ReturnType<TestKv['scanPages']> {
    this.scanCount++;
    return super.scanPages(range);
  }
}

describe('a commit of many scattered pieces', () => {
  const make = { op: 'make', parent: ROOT_INO, name: bytes('f'), type: 'file', mode: 0o644 } as const;
  const commit = { op: 'commit', growToBytes: 0, generation: 0, mtimeNs: 'now' } as const;
  const pieces = (count: number, step: number, from = 0): Extent[] =>
    Array.from({ length: count }, (_, index) => inline(from + index * step, bytes('xy')));

  it.each([
    ['before all that the file has', 1, 1],
    ['between as many others', 1_000, 1],
    ['between many others', 1_000, 10],
  ])('needs few range reads %s', async (_what, count, density) => {
    const kv = new ScanCountingKv();
    const { client, store } = await openLocal(kv);
    const { ino } = (await client.mutate({ ...make, owner: OWNER, rdev: 0, exclusive: true })).attr!;
    const step = 100;
    if (count > 1) await client.mutate({ ...commit, ino, extents: pieces(count * density, step / density, 3) });
    await client.mutate({ ...commit, ino, extents: pieces(2, step, 1_001 * step) });
    await store.flush();
    const before = kv.scanCount;
    const { attr } = await client.mutate({ ...commit, ino, extents: pieces(1_000, step) });
    expect(attr!.storedBytes).toBe(2 * 1_000 + 2 * 2 + (count > 1 ? 2 * count * density : 0));
    expect(kv.scanCount - before).toBeLessThan(100);
  });

  it('leaves what the pure functions say', async () => {
    const part = fc.record({ skip: fc.nat(60), length: fc.integer({ min: 1, max: 12 }), block: fc.boolean() });
    const parts = fc.record({
      from: fc.nat(1_500),
      // What is skipped is none for many, so that they lie end to end, and little or much for others.
      parts: fc.array(part, { minLength: 1, maxLength: 250, size: 'max' }),
      stride: fc.constantFrom(0, 1, 8),
      flush: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(parts, { minLength: 2, maxLength: 8 }), async (commits) => {
        const { client, store } = await openLocal();
        const { ino } = (await client.mutate({ ...make, owner: OWNER, rdev: 0, exclusive: true })).attr!;
        let expected: Extent[] = [];
        let n = 0;
        for (const { from, parts: all, stride, flush } of commits) {
          let at = from;
          const extents = all.map(({ skip, length, block }) => {
            const extent = made({ kind: 'commit', offset: at + skip * stride, length, block }, ++n % 256);
            at = extentEnd(extent);
            return extent;
          });
          const { attr } = await client.mutate({ ...commit, ino, extents });
          expected = overwrite(expected, extents);
          expect(attr!.storedBytes).toBe(storedBytes(expected));
          expect(attr!.sizeBytes).toBe(Math.max(...expected.map(extentEnd), attr!.sizeBytes));
          if (flush) await store.flush();
        }
        const all = { op: 'extents', ino, offset: 0, lengthBytes: FILE_MAX_BYTES, limit: 10_000 } as const;
        expect(plain((await client.query<'extents'>(all)).extents)).toEqual(plain(expected));
        // The inode knows where its last extent ends.
        const end = Math.max(...expected.map(extentEnd));
        const cut = await client.mutate({ op: 'setattr', ino, set: { sizeBytes: end - 1 } });
        expect(cut.attr!.storedBytes).toBe(storedBytes(truncate(expected, end - 1)));
      }),
      { numRuns: 60 },
    );
  }, 60_000);
});

describe('extents in the table', () => {
  it('come in answers that a message can hold, however many bytes are stored with them', async () => {
    const { client } = await openLocal();
    const make = { op: 'make', parent: ROOT_INO, name: bytes('f'), type: 'file', mode: 0o644 } as const;
    const { ino } = (await client.mutate({ ...make, owner: OWNER, rdev: 0, exclusive: true })).attr!;
    const step = 16_384;
    for (let count = 0; count < 300; count++) {
      const extents = [inline(count * step, new Uint8Array(step).fill(count))];
      await client.mutate({ op: 'commit', ino, extents, growToBytes: 0, mtimeNs: 'now' });
    }
    const found: Extent[] = [];
    for (let offset = 0, more = true; more; offset = extentEnd(found.at(-1)!)) {
      const reply = await client.query<'extents'>({
        op: 'extents',
        ino,
        offset,
        lengthBytes: FILE_MAX_BYTES,
        limit: 512,
      });
      expect(storedBytes(reply.extents)).toBeLessThan(FRAME_HEADER_MAX_BYTES * 0.6);
      found.push(...reply.extents);
      more = reply.more;
    }
    expect(found.map(({ offset }) => offset)).toEqual(Array.from({ length: 300 }, (_, index) => index * step));
  });

  it('are edited as by the pure functions', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 5, maxLength: 60, size: 'max' }), async (edits) => {
        const { client, store } = await openLocal();
        const make = { op: 'make', parent: ROOT_INO, name: bytes('f'), type: 'file', mode: 0o644 } as const;
        const { ino } = (await client.mutate({ ...make, owner: OWNER, rdev: 0, exclusive: true })).attr!;
        let expected: Extent[] = [];
        let n = 0;
        for (const one of edits) {
          const { offset, length: lengthBytes } = one;
          const end = offset + lengthBytes;
          if (one.kind === 'flush') {
            await store.flush();
          } else if (one.kind === 'commit') {
            const extent = made(one, ++n % 256);
            await client.mutate({
              op: 'commit',
              ino,
              extents: [extent],
              growToBytes: end,
              generation: 0,
              mtimeNs: 'now',
            });
            expected = overwrite(expected, [extent]);
          } else if (one.kind === 'clone') {
            // What stands 40 bytes further on, cut at the edges, with its holes.
            const extents = shift(clip(expected, offset + 40, end + 40), -40);
            await client.mutate({ op: 'clone', ino, offset, lengthBytes, extents, generation: 0 });
            expected = overwrite(punch(expected, offset, end), extents);
          } else if (one.kind === 'compact') {
            // Whole where the range has a hole: what that leaves must stay as it is.
            const parts = clip(expected, offset, end);
            const extent = { ...made({ ...one, block: true }, ++n % 256), offset };
            const before = (await client.query<'getattr'>({ op: 'getattr', ino })).attr;
            const compact = { op: 'compact', ino, extent, digest: digestExtents(parts), generation: 0 } as const;
            const isWhole = storedBytes(parts) === lengthBytes;
            const done = await client
              .mutate(compact)
              .catch((error: unknown) => (error instanceof FsError ? error.code : error));
            if (isWhole) {
              expect(done).toEqual({ attr: { ...before, version: before.version + 1 } });
              expected = overwrite(expected, [extent]);
            } else expect(done).toBe('EINVAL');
          } else if (one.kind === 'punch') {
            await client.mutate({ op: 'punch', ino, offset, lengthBytes });
            expected = punch(expected, offset, end);
          } else if (one.kind === 'truncate') {
            const sizeBytes = offset * 2;
            await client.mutate({ op: 'setattr', ino, set: { sizeBytes } });
            expected = truncate(expected, sizeBytes);
          } else {
            const part = await client.query<'extents'>({ op: 'extents', ino, offset, lengthBytes, limit: 3 });
            const all = expected.filter((extent) => touches(extent, offset, end));
            expect(plain(part.extents)).toEqual(plain(all.slice(0, 3)));
            expect(part.more).toBe(all.length > 3);
          }
        }
        const whole = await client.query<'extents'>({
          op: 'extents',
          ino,
          offset: 0,
          lengthBytes: 10_000,
          limit: 1000,
        });
        expect(plain(whole.extents)).toEqual(plain(expected));
        expect(whole.attr.storedBytes).toBe(storedBytes(expected));
        expect(whole.attr.sizeBytes).toBeGreaterThanOrEqual(Math.max(0, ...expected.map(extentEnd)));
      }),
      { numRuns: 60 },
    );
  }, 60_000);
});
