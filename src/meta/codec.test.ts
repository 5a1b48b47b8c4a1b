import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FormatError, StateError, TatamiError } from '../errors.ts';
import { asBlockId, ROOT_INO, type Ino, type PoolId, type SessionId } from '../ids.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { decodeCommand, encodeCommand, type Command } from './commands.ts';
import { decodeInode, encodeInode } from './codec.ts';
import { keyFromBytes, keyToBytes, prefixEnd, u64FromKey, u64Key } from './keys.ts';
import { decodeMutation, encodeMutation } from './mutation-codec.ts';
import { initialRoot } from './namespace.ts';
import { decodeOutcome, encodeOutcome } from './outcome.ts';
import { mergeOverlays, Overlay } from './overlay.ts';
import { decodeMutateRequest, encodeMutateRequest, takeClientCommand } from './requests.ts';
import { decodeSession, encodeSession } from './sessions.ts';
import { bytes, inline, OWNER } from './testing.ts';
import type { Mutation } from './types.ts';

const ino = (2 ** 53 - 1) as Ino;
const session = '0123456789abcdef'.repeat(2) as SessionId;
const block = {
  kind: 'block',
  offset: 2 ** 40,
  lengthBytes: 5,
  pool: 7 as PoolId,
  id: asBlockId(Buffer.alloc(32, 5)),
  blockOffset: 3,
  blockBytes: 9,
} as const;

const MUTATIONS: Mutation[] = [
  {
    op: 'make',
    parent: ino,
    name: bytes('\xff'),
    type: 'symlink',
    mode: 0o7777,
    owner: OWNER,
    rdev: 0,
    target: bytes('t'),
    exclusive: true,
  },
  {
    op: 'make',
    parent: ino,
    name: bytes('n'),
    type: 'char',
    mode: 0,
    owner: { uid: 2 ** 32 - 1, gid: 0 },
    rdev: 259,
    exclusive: false,
  },
  { op: 'link', ino, parent: ROOT_INO, name: bytes('n') },
  { op: 'unlink', parent: ino, name: bytes('n'), keepOpen: true },
  { op: 'rmdir', parent: ino, name: bytes('') },
  {
    op: 'rename',
    parent: ino,
    name: bytes('a'),
    newParent: ROOT_INO,
    newName: bytes('b'),
    noReplace: true,
    exchange: false,
    keepOpen: true,
  },
  { op: 'setattr', ino, set: {} },
  { op: 'setattr', ino, set: { mode: 1, uid: 2, gid: 3, sizeBytes: 4, atimeNs: -5n, mtimeNs: 'now' } },
  { op: 'commit', ino, extents: [inline(0, bytes('xyz')), block], growToBytes: 2 ** 50, generation: 0, mtimeNs: 12n },
  { op: 'commit', ino, extents: [], growToBytes: 0, mtimeNs: 'now' },
  { op: 'punch', ino, offset: 1, lengthBytes: 2 },
  { op: 'clone', ino, offset: 2 ** 40, lengthBytes: 2 ** 33, extents: [inline(0, bytes('xyz')), block], generation: 9 },
  { op: 'clone', ino, offset: 0, lengthBytes: 1, extents: [] },
  { op: 'compact', ino, extent: block, digest: new Uint8Array(32).fill(7), generation: 9 },
  { op: 'compact', ino, extent: inline(2 ** 40, bytes('xyz')), digest: new Uint8Array(32) },
  { op: 'setxattr', ino, name: bytes('user.a'), value: bytes('v'), mode: 'replace' },
  { op: 'removexattr', ino, name: bytes('user.a') },
  { op: 'releaseOrphan', ino },
  {
    op: 'lock',
    ino,
    lock: { kind: 'flock', type: 'write', owner: 2n ** 64n - 1n, pid: 9, start: 0, end: 2 ** 53 - 1 },
  },
  { op: 'setattr', ino, set: { pool: 3 as PoolId } },
  {
    op: 'commit',
    ino,
    extents: [inline(9, bytes('xyz'))],
    growToBytes: 12,
    mtimeNs: 12n,
    ctimeToo: true,
    appendAt: 10,
  },
  {
    ...{ op: 'commit', ino, extents: [block], growToBytes: 12, generation: 5, mtimeNs: 'now', appendAt: 10 },
    rewrites: { beforeOffset: 10, version: 2 ** 40 },
  },
  { op: 'unlink', parent: ino, name: bytes('n'), keepOpen: { unless: ino } },
  { op: 'accessed', ino, atimeNs: -(2n ** 60n) },
  { op: 'makeNameless', parent: ino, mode: 0o640, umask: 0o27, owner: OWNER },
  { op: 'makeNameless', parent: ino, mode: 0o7640, owner: OWNER },
  { op: 'setattr', ino, set: { sizeBytes: 0 }, ifNamed: true },
  { op: 'keepOrphans', ino, upToNumber: 7, inos: [ino, ROOT_INO] },
  {
    op: 'make',
    parent: ino,
    name: bytes('n'),
    type: 'directory',
    mode: 0o777,
    umask: 0o27,
    owner: OWNER,
    rdev: 0,
    exclusive: true,
  },
  {
    op: 'make',
    parent: ino,
    name: bytes('n'),
    type: 'symlink',
    mode: 0o777,
    umask: 0o777,
    owner: OWNER,
    rdev: 0,
    target: bytes('t'),
    exclusive: true,
  },
  { op: 'setxattr', ino, name: bytes('user.a'), value: bytes('v'), mode: 'create', killSetgid: true },
];

const COMMANDS: Command[] = [
  ...MUTATIONS.map((mutation): Command => ({
    kind: 'client',
    session,
    requestId: 9,
    ackedBelow: 3,
    nowNs: 1n << 60n,
    mutation,
  })),
  { kind: 'openSession', session, nowNs: 1n, leaseMs: 60_000, label: 'host:/mnt/ä' },
  { kind: 'openSession', session, nowNs: 1n, leaseMs: 60_000, label: 'host', answers: true },
  { kind: 'expireSession', session },
  { kind: 'gcBarrier', generation: 4 },
  { kind: 'reclaim', maxRows: 10 },
  { kind: 'noop' },
];

/** Buffers and plain arrays of bytes alike. */
const plain = (value: unknown): string =>
  JSON.stringify(value, (_key, v: unknown) => (typeof v === 'bigint' ? `${v}n` : v), 1);

it('a change of a kind that is not known says that versions may differ', () => {
  const unlink = { op: 'unlink', parent: ROOT_INO, name: bytes('n'), keepOpen: true } as const;
  const { bytes: asked } = decodeMutateRequest(
    encodeMutateRequest('g0', { session, requestId: 1, ackedBelow: 1 }, unlink),
  );
  // The last byte says what is kept open.
  asked[asked.length - 1] = 9;
  expect(() => takeClientCommand(asked, 2n)).toThrow(
    expect.objectContaining({ code: 'ERR_FORMAT', remedy: expect.stringContaining('another version') as string }),
  );
});

describe('codecs', () => {
  it('give back every command', () => {
    for (const command of COMMANDS) {
      expect(encodeCommand(decodeCommand(encodeCommand(command)))).toEqual(encodeCommand(command));
      expect(Object.keys(decodeCommand(encodeCommand(command))).sort()).toEqual(Object.keys(command).sort());
      if (command.kind !== 'client') expect(decodeCommand(encodeCommand(command))).toEqual(command);
    }
    for (const mutation of MUTATIONS) {
      expect(plain({ ...decodeMutation(encodeMutation(mutation)) })).toContain(mutation.op);
      const head = { session, requestId: 1, ackedBelow: 1 };
      const { group, bytes } = decodeMutateRequest(encodeMutateRequest('g0', head, mutation));
      const command = takeClientCommand(bytes, 2n);
      // As it came, with the primary's time, it is what the log holds.
      expect(group).toBe('g0');
      expect(bytes).toEqual(encodeCommand({ kind: 'client', ...head, nowNs: 2n, mutation }));
      expect(command).toEqual(decodeCommand(bytes));
    }
    expect(decodeMutation(encodeMutation(MUTATIONS[7]!))).toEqual(MUTATIONS[7]);
    expect(decodeMutation(encodeMutation(MUTATIONS[8]!))).toMatchObject({
      growToBytes: 2 ** 50,
      generation: 0,
      mtimeNs: 12n,
      extents: [{ lengthBytes: 3 }, { offset: 2 ** 40, blockOffset: 3 }],
    });
  });

  it('refuse bytes that are cut, changed or of a newer version with FormatError, never otherwise', () => {
    for (const command of COMMANDS) {
      const whole = encodeCommand(command);
      for (let length = 0; length < whole.length; length++)
        expect(() => decodeCommand(whole.subarray(0, length))).toThrow(FormatError);
      expect(() => decodeCommand(Buffer.concat([whole, bytes('x')]))).toThrow(FormatError);
    }
    expect(() => decodeCommand(Uint8Array.of(2, 0))).toThrow(/version 2/);
    fc.assert(
      fc.property(fc.constantFrom(...COMMANDS), fc.nat(), fc.nat(255), (command, at, value) => {
        const changed = Uint8Array.from(encodeCommand(command));
        changed[at % changed.length] = value;
        try {
          decodeCommand(changed);
        } catch (error) {
          expect(error).toBeInstanceOf(TatamiError);
        }
      }),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (noise) => {
        try {
          decodeMutation(noise);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('give back inodes, outcomes and sessions', () => {
    const inode = {
      ...initialRoot(),
      sizeBytes: 2 ** 53 - 1,
      mtimeNs: -1n,
      target: Buffer.from('x'),
      extentEnd: 2 ** 45,
      version: 2 ** 33,
    };
    expect(decodeInode(ROOT_INO, encodeInode(inode))).toEqual(inode);
    expect(encodeInode(inode)[0]).toBe(1);
    for (const hasAcl of [true, false]) {
      const listed = { ...inode, hasAcl, hasDefaultAcl: true };
      expect(decodeInode(ROOT_INO, encodeInode(listed))).toEqual(listed);
      // Programs that know no lists shall refuse the row.
      expect(encodeInode(listed)[0]).toBe(2);
    }
    expect(() =>
      decodeInode(
        ROOT_INO,
        Uint8Array.from(encodeInode(inode), (byte, at) => (at === 0 ? 3 : byte)),
      ),
    ).toThrow(/version 3/);
    const {
      target: _target,
      dataIno: _d,
      extentCount: _e,
      blockExtentCount: _b,
      extentEnd: _n,
      xattrCount: _x,
      ...shared
    } = inode;
    const attr = { ...shared, hasXattrs: false };
    for (const outcome of [
      { ok: false, code: 'ENOENT' },
      { ok: true, result: {} },
      { ok: true, result: { attr, victim: attr, created: false } },
      {
        ok: true,
        result: { parentAttr: { ...attr, hasAcl: true, hasXattrs: true }, newParentAttr: attr, created: true },
      },
    ] as const) {
      expect(decodeOutcome(encodeOutcome(outcome))).toEqual(outcome);
      const one = {
        openedNs: 5n,
        leaseMs: 7,
        label: 'l',
        ackedBelow: 3,
        orphansAnswered: 4,
        results: new Map([[3, outcome]]),
      };
      expect(decodeSession(encodeSession(one))).toEqual(one);
    }
  });

  it('order keys as their bytes', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.maxSafeNat(), (a, b) => {
        expect(u64FromKey(u64Key(a), 0)).toBe(a);
        expect(u64Key(a) < u64Key(b)).toBe(a < b);
        expect(Buffer.compare(keyToBytes(u64Key(a)), keyToBytes(u64Key(b)))).toBe(Math.sign(a - b));
        expect(prefixEnd(`i${u64Key(a)}`) > `i${u64Key(a)}\xff\xff`).toBe(true);
        if (b > a) expect(prefixEnd(`i${u64Key(a)}`) <= `i${u64Key(b)}`).toBe(true);
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array(), (raw) => {
        expect(Uint8Array.from(keyToBytes(keyFromBytes(raw)))).toEqual(raw);
      }),
    );
  });
});

describe('Overlay', () => {
  it('merges layers as one sorted map would, up to the limit', () => {
    const row = fc.tuple(
      fc.nat(2000).map((n) => String(n).padStart(4, '0')),
      fc.option(fc.nat(255), { nil: undefined }),
    );
    const layer = fc.array(row, { maxLength: 900, size: 'max' });
    fc.assert(
      fc.property(
        fc.array(layer, { maxLength: 3 }),
        row,
        row,
        fc.boolean(),
        fc.integer({ min: 1, max: 40 }),
        (layers, [gte], [lt], reverse, limit) => {
          const expected = new Map<string, number | undefined>();
          for (const rows of layers.toReversed()) for (const [key, value] of rows) expected.set(key, value);
          const overlays = layers.map((rows) => {
            const overlay = new Overlay();
            rows.forEach(([key, value], at) => {
              overlay.set(key, value === undefined ? undefined : Uint8Array.of(value));
              if (at === 100) overlay.keys('', '9', false).next();
            });
            return overlay;
          });
          const merged = mergeOverlays(overlays, { gte, lt, limit, reverse });
          const all = [...expected].filter(([key]) => key >= gte && key < lt).sort((a, b) => (a[0] < b[0] ? -1 : 1));
          if (reverse) all.reverse();
          const live = all.filter(([, value]) => value !== undefined).slice(0, limit);
          expect(merged.filter(([, value]) => value !== undefined).map(([key, value]) => [key, value![0]])).toEqual(
            live,
          );
          const last = live.length === limit ? all.findIndex(([key]) => key === live.at(-1)![0]) : all.length - 1;
          expect(merged.map(([key]) => key)).toEqual(all.slice(0, last + 1).map(([key]) => key));
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('numbers', () => {
  const writes: [string, (w: ByteWriter) => void][] = [
    ['u16 of 65,536', (w) => w.u16(65_536)],
    ['u32 of -1', (w) => w.u32(-1)],
    ['u32 of 2^32', (w) => w.u32(2 ** 32)],
    ['u32 of a half', (w) => w.u32(0.5)],
    ['u32 of no number', (w) => w.u32(NaN)],
    ['u53 of 2^53', (w) => w.u53(2 ** 53)],
    ['u53 of -1', (w) => w.u53(-1)],
    ['i64 of 2^63', (w) => w.i64(2n ** 63n)],
  ];
  it.each(writes)('that do not fit are refused: %s', (_, write) => {
    expect(() => write(new ByteWriter())).toThrow(StateError);
  });

  it('come back as they were, at any place', () => {
    const u53 = fc.maxSafeNat();
    const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
    fc.assert(
      fc.property(fc.nat(7), fc.nat(65_535), fc.nat(2 ** 32 - 1), u53, i64, (skip, short, long, large, signed) => {
        const bytes = new ByteWriter().raw(new Uint8Array(skip)).u16(short).u32(long).u53(large).i64(signed).finish();
        const r = new ByteReader(bytes, 'it');
        r.raw(skip);
        expect([r.u16(), r.u32(), r.u53(), r.i64()]).toEqual([short, long, large, signed]);
        r.end();
      }),
    );
  });

  it('beyond 2^53 are no numbers of ours', () => {
    expect(() => new ByteReader(Uint8Array.of(0, 0, 0, 0, 0, 0, 0x20, 0), 'it').u53()).toThrow(FormatError);
    expect(() => new ByteReader(new Uint8Array(8).fill(255), 'it').u53()).toThrow(FormatError);
    expect(new ByteReader(Uint8Array.of(255, 255, 255, 255, 255, 255, 0x1f, 0), 'it').u53()).toBe(2 ** 53 - 1);
  });
});
