import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CancelledError, FsError } from '../errors.ts';
import type { Ino, PoolId } from '../ids.ts';
import type { Attr } from '../meta/types.ts';
import { RemovedMeanwhileError, type Caller, type DirItem, type VfsOps } from '../vfs/ops.ts';
import { encodeDelete, encodeInvalidateEntry, encodeInvalidateInode } from './codec-notify.ts';
import { ERRNO_NUMBERS, errnoNumber } from './errno.ts';
import { InitFlag, Opcode, REQUEST_BUFFER_BYTES } from './protocol.ts';
import { FuseSession } from './session.ts';

const ATTR: Attr = {
  ino: 0x1122334455 as Ino,
  type: 'file',
  mode: 0o640,
  uid: 1000,
  gid: 1001,
  nlink: 2,
  sizeBytes: 0x123456789a,
  storedBytes: 1025,
  atimeNs: 1_700_000_000_123_456_789n,
  mtimeNs: -1n,
  ctimeNs: 1n,
  rdev: 0x0805,
  version: 7,
  generation: 3,
  pool: 1 as PoolId,
  parent: 1 as Ino,
  hasAcl: false,
  hasDefaultAcl: true,
  hasXattrs: true,
};
const ENTRY = { attr: ATTR, entryTimeoutMs: 1500, attrTimeoutMs: 250 };
const DOT: DirItem = { name: Buffer.from('.'), ino: 1 as Ino, type: 'directory', nextOffset: 1 };
const ITEM: DirItem = { name: Buffer.from('name9byte'), ino: ATTR.ino, type: 'file', nextOffset: 2, entry: ENTRY };

type Field = readonly ['u32' | 'u64', number | bigint] | string;

/** Builds a request; strings are followed by NUL. */
function body(...fields: Field[]): Buffer {
  return Buffer.concat(
    fields.map((field) => {
      if (typeof field === 'string') return Buffer.from(`${field}\0`, 'latin1');
      const bytes = Buffer.alloc(field[0] === 'u32' ? 4 : 8);
      if (field[0] === 'u32') bytes.writeUInt32LE(Number(field[1]));
      else bytes.writeBigUInt64LE(BigInt(field[1]));
      return bytes;
    }),
  );
}
/** As the kernel sends them: to the end of the file unless told. */
function lockBody({ type = 0, start = 0, end = 2n ** 63n - 1n, flags = 0 }): Buffer {
  return body(u64(9), u64(2n ** 63n + 1n), u64(start), u64(end), u32(type), u32(4242), u32(flags), u32(0));
}
const u32 = (value: number): Field => ['u32', value];
const u64 = (value: number | bigint): Field => ['u64', value];

/** Answers every call from a table and notes what was called. */
function recordingOps(answers: Partial<Record<keyof VfsOps, (...args: never[]) => unknown>>, calls: string[]): VfsOps {
  const show = (value: unknown): string => {
    if (value instanceof Uint8Array) return JSON.stringify(Buffer.from(value).toString('latin1'));
    if (typeof value === 'bigint') return `${value}n`;
    if (typeof value !== 'object' || value === null) return String(value);
    if ('pid' in value) {
      const { uid, gid, pid } = value as Caller;
      return `caller(${uid},${gid},${pid})`;
    }
    return `{${Object.entries(value)
      .map(([key, item]) => `${key}:${show(item)}`)
      .join(',')}}`;
  };
  return new Proxy({} as VfsOps, {
    get:
      (_, name) =>
      (...args: never[]) => {
        calls.push(`${String(name)}(${args.map(show).join(', ')})`);
        return answers[name as keyof VfsOps]?.(...args);
      },
  });
}

class Harness {
  readonly calls: string[] = [];
  readonly replies: Buffer[] = [];
  readonly logged: string[] = [];
  readonly session: FuseSession;
  refuse = false;
  ending = true;
  interrupted = 0;
  readonly #buffer = Buffer.alloc(REQUEST_BUFFER_BYTES, 0xee);

  constructor(answers: Parameters<typeof recordingOps>[0] = {}) {
    const sink = {
      send: (bytes: Buffer, length: number) => {
        if (!this.refuse) this.replies.push(Buffer.from(bytes.subarray(0, length)));
        return !this.refuse;
      },
      sendData: (header: Buffer, chunks: readonly Uint8Array[], _: number, done: (() => void) | undefined) => {
        this.replies.push(Buffer.concat([header, ...chunks]));
        done?.();
      },
    };
    this.session = new FuseSession(recordingOps(answers, this.calls), sink, {
      maxReadAheadBytes: 4 << 20,
      log: (text) => this.logged.push(text),
      isEnding: () => this.ending,
      onInterrupted: () => this.interrupted++,
    });
  }

  /** Sends a request with unique 0x1_0000_0002 (or another) on inode 5, and returns its bytes. */
  ask(opcode: number, payload: Buffer, unique = 0x1_0000_0002): Buffer {
    const header = body(
      u32(40 + payload.length),
      u32(opcode),
      u64(unique),
      u64(5),
      u32(1000),
      u32(100),
      u32(4242),
      u32(0),
    );
    const request = Buffer.concat([header, payload]);
    request.copy(this.#buffer);
    const view = new DataView(this.#buffer.buffer, this.#buffer.byteOffset, this.#buffer.length);
    this.session.handle({ bytes: this.#buffer, view, length: request.length });
    return request;
  }

  get lastErrno(): number {
    return -(this.replies.at(-1)?.readInt32LE(4) ?? 0);
  }
}

function hex(bytes: Buffer): string {
  const lines: string[] = [];
  for (let i = 0; i < bytes.length; i += 16) {
    lines.push(
      `    ${(
        bytes
          .subarray(i, i + 16)
          .toString('hex')
          .match(/.{1,8}/g) ?? []
      ).join(' ')}`,
    );
  }
  return lines.join('\n');
}

const OPENED = { handle: 9, keepCache: true };
const ANSWERS: Parameters<typeof recordingOps>[0] = {
  getlk: () => ({ type: 'write', start: 5, end: Number.MAX_SAFE_INTEGER, pid: 77 }),
  lookup: () => ENTRY,
  getattr: () => ({ attr: ATTR, attrTimeoutMs: 1000 }),
  setattr: () => ({ attr: ATTR, attrTimeoutMs: 0 }),
  readlink: () => Buffer.from('target'),
  symlink: () => ENTRY,
  mknod: () => ENTRY,
  mkdir: () => ENTRY,
  link: () => ENTRY,
  open: () => OPENED,
  create: () => ({ ...ENTRY, ...OPENED }),
  tmpfile: () => ({ ...ENTRY, ...OPENED }),
  opendir: () => OPENED,
  read: () => ({ chunks: [Buffer.from('ab'), Buffer.from('cde')] }),
  write: () => 3,
  readdir: () => [DOT, ITEM],
  statfs: () => ({
    totalBytes: 4096 * 100,
    freeBytes: 4096 * 40,
    fileCount: 7,
    freeFileCount: 1000,
    blockSizeBytes: 4096,
  }),
  getxattr: () => Buffer.from('value'),
  listxattr: () => [Buffer.from('user.a'), Buffer.from('user.b')],
  lseek: () => 4096,
  copyFileRange: () => 70_000,
};

/** One of each kind of request that the session answers. */
const SCRIPT: readonly (readonly [string, number, Buffer])[] = [
  [
    'INIT',
    Opcode.INIT,
    body(u32(7), u32(45), u32(131072), u32(0x73fffffb), u32(0xff), ...new Array<Field>(11).fill(u32(0))),
  ],
  ['LOOKUP', Opcode.LOOKUP, body('name\xff')],
  ['LOOKUP of "."', Opcode.LOOKUP, body('.')],
  ['FORGET', Opcode.FORGET, body(u64(3))],
  ['BATCH_FORGET', Opcode.BATCH_FORGET, body(u32(2), u32(0), u64(8), u64(1), u64(9), u64(2))],
  ['GETATTR', Opcode.GETATTR, body(u32(0), u32(0), u64(0))],
  ['GETATTR with handle', Opcode.GETATTR, body(u32(1), u32(0), u64(9))],
  [
    'SETATTR of everything',
    Opcode.SETATTR,
    body(
      u32(0x7f),
      u32(0),
      u64(9),
      u64(12345),
      u64(0),
      u64(1_700_000_000),
      u64(0xffff_ffff_ffff_ffffn),
      u64(0),
      u32(5),
      u32(999_999_999),
      u32(0),
      u32(0o104755),
      u32(0),
      u32(1),
      u32(2),
      u32(0),
    ),
  ],
  ['SETATTR to now', Opcode.SETATTR, body(u32(0x1b0), u32(0), ...new Array<Field>(10).fill(u64(0)))],
  ['READLINK', Opcode.READLINK, body()],
  ['SYMLINK', Opcode.SYMLINK, body('name', 'target')],
  ['MKNOD', Opcode.MKNOD, body(u32(0o010644), u32(0), u32(0o22), u32(0), 'fifo')],
  ['MKDIR', Opcode.MKDIR, body(u32(0o41755), u32(0o22), 'dir')],
  ['UNLINK', Opcode.UNLINK, body('name')],
  ['RMDIR', Opcode.RMDIR, body('dir')],
  ['RENAME', Opcode.RENAME, body(u64(6), 'old', 'new')],
  ['RENAME2', Opcode.RENAME2, body(u64(6), u32(2), u32(0), 'old', 'new')],
  ['LINK', Opcode.LINK, body(u64(77), 'name')],
  ['OPEN', Opcode.OPEN, body(u32(0o2), u32(0))],
  ['TMPFILE', Opcode.TMPFILE, body(u32(0o20200002), u32(0o100600), u32(0o22), u32(0), '/')],
  ['CREATE', Opcode.CREATE, body(u32(0o301), u32(0o100600), u32(0o22), u32(0), 'name')],
  ['READ', Opcode.READ, body(u64(9), u64(0x1_0000_1000), u32(4096), u32(0), u64(0), u32(0), u32(0))],
  [
    'WRITE',
    Opcode.WRITE,
    Buffer.concat([body(u64(9), u64(0x1_0000_1000), u32(3), u32(0), u64(0), u32(0), u32(0)), Buffer.from('xyz')]),
  ],
  ['FLUSH', Opcode.FLUSH, body(u64(9), u32(0), u32(0), u64(0xfedc_ba98_7654_3210n))],
  ['RELEASE', Opcode.RELEASE, body(u64(9), u32(0), u32(0), u64(0))],
  ['FSYNC of data', Opcode.FSYNC, body(u64(9), u32(1), u32(0))],
  ['OPENDIR', Opcode.OPENDIR, body(u32(0), u32(0))],
  ['READDIR', Opcode.READDIR, body(u64(9), u64(0), u32(4096), u32(0), u64(0), u32(0), u32(0))],
  ['READDIRPLUS', Opcode.READDIRPLUS, body(u64(9), u64(0), u32(4096), u32(0), u64(0), u32(0), u32(0))],
  ['READDIRPLUS with room for one', Opcode.READDIRPLUS, body(u64(9), u64(0), u32(200), u32(0), u64(0), u32(0), u32(0))],
  ['RELEASEDIR', Opcode.RELEASEDIR, body(u64(9), u32(0), u32(0), u64(0))],
  ['FSYNCDIR', Opcode.FSYNCDIR, body(u64(9), u32(0), u32(0))],
  ['STATFS', Opcode.STATFS, body()],
  ['GETXATTR', Opcode.GETXATTR, body(u32(100), u32(0), 'user.a')],
  ['GETXATTR of the size', Opcode.GETXATTR, body(u32(0), u32(0), 'user.a')],
  ['GETXATTR with too little room', Opcode.GETXATTR, body(u32(4), u32(0), 'user.a')],
  ['LISTXATTR', Opcode.LISTXATTR, body(u32(100), u32(0))],
  ['SETXATTR', Opcode.SETXATTR, Buffer.concat([body(u32(2), u32(1), 'user.a'), Buffer.of(0, 255)])],
  ['REMOVEXATTR', Opcode.REMOVEXATTR, body('user.a')],
  ['FALLOCATE', Opcode.FALLOCATE, body(u64(9), u64(4096), u64(8192), u32(3), u32(0))],
  [
    'COPY_FILE_RANGE',
    Opcode.COPY_FILE_RANGE,
    body(u64(9), u64(4096), u64(5), u64(10), u64(8192), u64(2n ** 62n), u64(0)),
  ],
  [
    'COPY_FILE_RANGE with a flag',
    Opcode.COPY_FILE_RANGE,
    body(u64(9), u64(0), u64(5), u64(10), u64(0), u64(1), u64(1)),
  ],
  ['LSEEK', Opcode.LSEEK, body(u64(9), u64(1), u32(3), u32(0))],
  ['GETLK', Opcode.GETLK, lockBody({ type: 1 })],
  ['SETLK of a range', Opcode.SETLK, lockBody({ start: 4096, end: 8191n })],
  ['SETLKW', Opcode.SETLKW, lockBody({ type: 1 })],
  ['SETLK of flock, unlocking', Opcode.SETLK, lockBody({ type: 2, flags: 1 })],
  ['SETLK of an unknown type', Opcode.SETLK, lockBody({ type: 3 })],
  ['INTERRUPT of nothing', Opcode.INTERRUPT, body(u64(4))],
  ['ACCESS (not offered)', Opcode.ACCESS, body(u32(4), u32(0))],
  ['DESTROY', Opcode.DESTROY, body()],
];

it('requests become calls and their results become bytes, as in the golden file', async () => {
  const text = SCRIPT.map(([title, opcode, payload]) => {
    const harness = new Harness(ANSWERS);
    const request = harness.ask(opcode, payload);
    expect(harness.logged).toEqual([]);
    for (const reply of harness.replies) expect(reply.readUInt32LE(0)).toBe(reply.length);
    return [
      `${title}\n  request\n${hex(request)}`,
      ...harness.calls.map((call) => `  call ${call}`),
      ...harness.replies.map((reply) => `  reply\n${hex(reply)}`),
    ].join('\n');
  });
  const notices = [
    ['INVAL_INODE', encodeInvalidateInode(ATTR.ino)],
    ['INVAL_INODE, attributes only', encodeInvalidateInode(ATTR.ino, -1)],
    ['INVAL_ENTRY', encodeInvalidateEntry(1, Buffer.from('name'))],
    ['DELETE', encodeDelete(1, ATTR.ino, Buffer.from('name'))],
  ] as const;
  text.push(...notices.map(([title, bytes]) => `Notice ${title}\n${hex(bytes)}`));
  await expect(`${text.join('\n\n')}\n`).toMatchFileSnapshot(
    resolve(import.meta.dirname, '../../test/golden/fuse-session.txt'),
  );
});

describe('INIT', () => {
  const init = (major: number, minor: number, flags = 0xffffffff): Buffer =>
    body(u32(major), u32(minor), u32(131072), u32(flags));

  it('agrees on the lower minor and asks for locks, and for no cache that would be ours to keep right', () => {
    const harness = new Harness();
    harness.ask(Opcode.INIT, init(7, 31));
    const reply = harness.replies[0]!;
    expect(reply.readUInt32LE(20)).toBe(31);
    const flags = reply.readUInt32LE(28);
    expect(flags & (InitFlag.WRITEBACK_CACHE | InitFlag.AUTO_INVAL_DATA)).toBe(0);
    for (const wanted of [InitFlag.MAX_PAGES, InitFlag.POSIX_LOCKS, InitFlag.FLOCK_LOCKS])
      expect(flags & wanted).not.toBe(0);
  });

  it('and with it on access control lists: the umask comes to us, and whether setgid goes', () => {
    const harness = new Harness(ANSWERS);
    harness.ask(Opcode.INIT, init(7, 38));
    const flags = harness.replies[0]!.readUInt32LE(28);
    for (const wanted of [InitFlag.POSIX_ACL, InitFlag.DONT_MASK, InitFlag.SETXATTR_EXT])
      expect(flags & wanted).not.toBe(0);
    const value = Buffer.from('v');
    for (const moreFlags of [0, 1])
      harness.ask(
        Opcode.SETXATTR,
        Buffer.concat([body(u32(1), u32(0), u32(moreFlags), u32(0), 'system.posix_acl_access'), value]),
      );
    expect(harness.calls.map((call) => call.replace(/^.*"system/, '"system'))).toEqual([
      '"system.posix_acl_access", "v", any, false)',
      '"system.posix_acl_access", "v", any, true)',
    ]);
  });

  it('asks for nothing that is not offered', () => {
    const harness = new Harness();
    harness.ask(Opcode.INIT, init(7, 38, InitFlag.BIG_WRITES));
    expect(harness.replies[0]!.readUInt32LE(28)).toBe(InitFlag.BIG_WRITES);
  });

  it('answers a newer major with ours and refuses an older protocol with a message', () => {
    const harness = new Harness();
    harness.ask(Opcode.INIT, init(8, 0));
    expect(harness.replies[0]!.readUInt32LE(16)).toBe(7);
    harness.ask(Opcode.INIT, init(7, 30));
    expect(harness.lastErrno).toBe(ERRNO_NUMBERS.EPROTO);
    expect(harness.logged[0]).toContain('7.31');
  });
});

describe('failures', () => {
  it('every errno of ours has a number', () => {
    for (const [name, number] of Object.entries(ERRNO_NUMBERS)) expect(errnoNumber(name)).toBe(number);
    expect(errnoNumber('ERR_STATE')).toBeUndefined();
  });

  it('FsErrors are answered with their number, thrown at once or later; nothing is logged', async () => {
    const harness = new Harness({
      unlink: () => {
        throw new FsError('EBUSY');
      },
      rmdir: () => Promise.reject(new FsError('ENOTEMPTY')),
    });
    harness.ask(Opcode.UNLINK, body('a'));
    expect(harness.lastErrno).toBe(ERRNO_NUMBERS.EBUSY);
    harness.ask(Opcode.RMDIR, body('a'));
    expect(harness.session.pendingCount).toBe(1);
    await Promise.resolve();
    await Promise.resolve();
    expect(harness.lastErrno).toBe(ERRNO_NUMBERS.ENOTEMPTY);
    expect(harness.session.pendingCount).toBe(0);
    expect(harness.logged).toEqual([]);
  });

  it('setxattr that wants both that it is there and that it is not is refused, whichever it is', async () => {
    let isThere = true;
    const harness = new Harness({
      getxattr: async () => (isThere ? Buffer.from('v') : Promise.reject(new FsError('ENODATA'))),
    });
    const both = Buffer.concat([body(u32(1), u32(3), 'user.a'), Buffer.from('w')]);
    for (const errno of [ERRNO_NUMBERS.EEXIST, ERRNO_NUMBERS.ENODATA]) {
      harness.ask(Opcode.SETXATTR, both);
      while (harness.session.pendingCount > 0) await Promise.resolve();
      expect(harness.lastErrno).toBe(errno);
      isThere = false;
    }
    expect(harness.calls.filter((call) => call.startsWith('setxattr'))).toEqual([]);
  });

  it('any other error is EIO and logged', () => {
    const harness = new Harness({
      getattr: () => {
        throw new TypeError('a bug');
      },
    });
    harness.ask(Opcode.GETATTR, body(u32(0), u32(0), u64(0)));
    expect(harness.lastErrno).toBe(ERRNO_NUMBERS.EIO);
    expect(harness.logged[0]).toContain('a bug');
  });

  it('what is too short, without end or out of range is refused without a call', () => {
    const harness = new Harness(ANSWERS);
    harness.ask(Opcode.LOOKUP, Buffer.from('no end'));
    expect(harness.lastErrno).toBe(ERRNO_NUMBERS.EINVAL);
    harness.ask(Opcode.WRITE, body(u64(9), u64(0), u32(4096), u32(0), u64(0), u32(0), u32(0)));
    expect(harness.lastErrno).toBe(ERRNO_NUMBERS.EINVAL);
    harness.ask(Opcode.WRITE, body(u64(9), u64(2n ** 60n), u32(0), u32(0), u64(0), u32(0), u32(0)));
    expect(harness.lastErrno).toBe(ERRNO_NUMBERS.EFBIG);
    harness.ask(Opcode.RENAME2, body(u64(6), u32(4), u32(0), 'a', 'b'));
    expect(harness.lastErrno).toBe(ERRNO_NUMBERS.EINVAL);
    harness.ask(Opcode.MKNOD, body(u32(0o040755), u32(0), u32(0), u32(0), 'dir'));
    expect(harness.lastErrno).toBe(ERRNO_NUMBERS.EINVAL);
    expect(harness.calls).toEqual([]);
  });

  it('a read of more than was asked for is never sent', () => {
    const harness = new Harness({ read: () => ({ chunks: [Buffer.alloc(10)] }) });
    harness.ask(Opcode.READ, body(u64(9), u64(0), u32(5), u32(0), u64(0), u32(0), u32(0)));
    expect(harness.lastErrno).toBe(ERRNO_NUMBERS.EIO);
  });
});

describe('INTERRUPT', () => {
  it('fires the signal of the request that waits, and ends it with EINTR at once', async () => {
    const harness = new Harness({
      read: (caller: Caller) =>
        new Promise((_, reject) => caller.signal?.addEventListener('abort', () => reject(new CancelledError()))),
    });
    harness.ask(Opcode.READ, body(u64(9), u64(0), u32(5), u32(0), u64(0), u32(0), u32(0)), 10);
    harness.ask(Opcode.INTERRUPT, body(u64(10)), 11);
    await Promise.resolve();
    await Promise.resolve();
    expect(harness.replies).toHaveLength(1);
    expect(harness.lastErrno).toBe(ERRNO_NUMBERS.EINTR);
    expect(harness.replies[0]!.readUInt32LE(8)).toBe(10);
    expect(harness.logged).toEqual([]);
  });

  it('ends a request only once its thread is about to die, and gives back what came of it after all', async () => {
    let opened!: (value: unknown) => void;
    const harness = new Harness({ open: () => new Promise((resolve) => (opened = resolve)) });
    harness.ending = false;
    harness.ask(Opcode.OPEN, body(u32(0), u32(0)), 10);
    harness.ask(Opcode.INTERRUPT, body(u64(10)), 11);
    expect(harness.interrupted).toBe(1);
    expect(harness.session.lookAtInterrupted()).toBe(true);
    expect(harness.replies).toEqual([]);
    harness.ending = true;
    expect(harness.session.lookAtInterrupted()).toBe(false);
    expect(harness.lastErrno).toBe(ERRNO_NUMBERS.EINTR);
    opened({ handle: 77, keepCache: false });
    await Promise.resolve();
    await Promise.resolve();
    expect(harness.replies).toHaveLength(1);
    expect(harness.calls.at(-1)).toBe('release(77)');
  });

  it('of a lock that is waited for is for whoever waits for it, who may have got it', async () => {
    let granted!: () => void;
    const signals: (boolean | undefined)[] = [];
    const harness = new Harness({
      setlk: (caller: Caller) => {
        caller.signal?.addEventListener('abort', () => signals.push(caller.signal?.aborted));
        return new Promise<void>((resolve) => (granted = resolve));
      },
    });
    harness.ending = false;
    harness.ask(Opcode.SETLKW, lockBody({ type: 1 }), 10);
    harness.ask(Opcode.INTERRUPT, body(u64(10)), 11);
    expect(signals).toEqual([true]);
    expect(harness.replies).toEqual([]);
    granted();
    await Promise.resolve();
    await Promise.resolve();
    expect(harness.replies).toHaveLength(1);
    expect(harness.lastErrno).toBeCloseTo(0);
  });

  it('a request of a thread that goes on is answered as if there had been no signal', async () => {
    let opened!: (value: unknown) => void;
    const harness = new Harness({ open: () => new Promise((resolve) => (opened = resolve)) });
    harness.ending = false;
    harness.ask(Opcode.OPEN, body(u32(0), u32(0)), 10);
    harness.ask(Opcode.INTERRUPT, body(u64(10)), 11);
    opened({ handle: 77, keepCache: false });
    await Promise.resolve();
    await Promise.resolve();
    expect(harness.lastErrno).toBeCloseTo(0);
    expect(harness.session.lookAtInterrupted()).toBe(false);
  });

  it('a signal that is asked for after the interrupt has fired already', () => {
    let caller: Caller | undefined;
    const harness = new Harness({ read: (from: Caller) => new Promise(() => (caller = from)) });
    harness.ask(Opcode.READ, body(u64(9), u64(0), u32(5), u32(0), u64(0), u32(0), u32(0)), 10);
    harness.ask(Opcode.INTERRUPT, body(u64(10)), 11);
    expect(caller?.signal?.aborted).toBe(true);
  });
});

it('when the kernel no longer wants the answer, what was opened for it is closed again', () => {
  const harness = new Harness(ANSWERS);
  harness.refuse = true;
  harness.ask(Opcode.CREATE, body(u32(1), u32(0o600), u32(0), u32(0), 'name'));
  harness.ask(Opcode.LOOKUP, body('name'));
  expect(harness.calls.slice(1)).toEqual([
    'release(9)',
    `unseen(${ATTR.ino})`,
    `forget(${ATTR.ino}, 1)`,
    expect.stringContaining('lookup('),
    `unseen(${ATTR.ino})`,
    `forget(${ATTR.ino}, 1)`,
  ]);
});

it('what of a listing does not reach the kernel is told to be unseen, and is not referenced', () => {
  const harness = new Harness({ readdir: () => [DOT, ITEM, { ...ITEM, name: Buffer.from('other') }] });
  const list = (size: number) => {
    harness.calls.splice(0);
    harness.ask(Opcode.READDIRPLUS, body(u64(9), u64(0), u32(size), u32(0), u64(0), u32(0), u32(0)));
    return harness.calls.slice(1);
  };
  expect(list(4096)).toEqual([`remember(${ATTR.ino})`, `remember(${ATTR.ino})`]);
  expect(list(400)).toEqual([`remember(${ATTR.ino})`, `unseen(${ATTR.ino})`]);
  harness.refuse = true;
  expect(list(4096)).toEqual([`unseen(${ATTR.ino})`, `unseen(${ATTR.ino})`]);
});

it('an inode that is gone is looked up anew by the kernel, a name that is not there is not', () => {
  let error = new FsError('ENOENT');
  const fail = () => {
    throw error;
  };
  const harness = new Harness({ open: fail, getattr: fail, create: fail, link: fail, lookup: fail, unlink: fail });
  const errnoOf = (opcode: number, payload: Buffer): number => {
    harness.ask(opcode, payload);
    return harness.lastErrno;
  };
  expect(errnoOf(Opcode.OPEN, body(u32(0), u32(0)))).toBe(ERRNO_NUMBERS.ESTALE);
  expect(errnoOf(Opcode.GETATTR, body(u32(0), u32(0), u64(0)))).toBe(ERRNO_NUMBERS.ESTALE);
  expect(errnoOf(Opcode.CREATE, body(u32(0), u32(0), u32(0), u32(0), 'n'))).toBe(ERRNO_NUMBERS.ESTALE);
  expect(errnoOf(Opcode.LOOKUP, body('n'))).toBe(ERRNO_NUMBERS.ENOENT);
  expect(errnoOf(Opcode.UNLINK, body('n'))).toBe(ERRNO_NUMBERS.ENOENT);
  expect(errnoOf(Opcode.LINK, body(u64(5), 'n'))).toBe(ERRNO_NUMBERS.ESTALE);
  error = new RemovedMeanwhileError();
  expect(errnoOf(Opcode.LINK, body(u64(5), 'n'))).toBe(ERRNO_NUMBERS.ENOENT);
});

it('names and values outlive the request buffer', () => {
  const kept: Uint8Array[] = [];
  const harness = new Harness({
    lookup: (_: Caller, __: Ino, name: Uint8Array) => (kept.push(name), new Promise(() => undefined)),
  });
  harness.ask(Opcode.LOOKUP, body('first'));
  harness.ask(Opcode.LOOKUP, body('other'));
  expect(kept.map(String)).toEqual([Buffer.from('first'), Buffer.from('other')].map((name) => String(name)));
});
