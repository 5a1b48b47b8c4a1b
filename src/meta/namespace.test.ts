/** Random histories against the model (testing-model.ts), and what replicas and crashes must not change. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { asBlockId, ROOT_INO, type Ino, type PoolId, type Seq, type SessionId } from '../ids.ts';
import { aclName, decodeAcl, modeWithAcl } from './acl.ts';
import { decodeCommand, encodeCommand, type Command } from './commands.ts';
import { extentEnd } from './extents.ts';
import { MetaStore } from './meta-store.ts';
import type { Outcome } from './outcome.ts';
import { LOCKED_BYTES, LONG_LIST, ModelFs, PLAIN_LIST } from './testing-model.ts';
import { contentOf, OWNER, TestKv } from './testing.ts';
import type { Extent, Mutation } from './types.ts';

const SESSIONS = ['a'.repeat(32), 'b'.repeat(32)] as SessionId[];
const NAMES = ['a', 'b', 'c', '\xff', 'aa'].map((name) => Buffer.from(name, 'latin1'));

/** A mutation whose inodes are still to be chosen among those that were ever made. */
type Step =
  | {
      readonly kind: 'mutate';
      readonly session: number;
      readonly retry: boolean;
      readonly build: (ino: (n: number) => Ino) => Mutation;
    }
  | { readonly kind: 'expire'; readonly session: number }
  | { readonly kind: 'reclaim' }
  | { readonly kind: 'flush' };

const slot = fc.nat(20);
const name = fc.constantFrom(...NAMES);
const offset = fc.oneof(fc.constant(0), fc.nat(150));
const length = fc.integer({ min: 1, max: 60 });

const extent: fc.Arbitrary<Extent> = fc.oneof(
  fc
    .tuple(offset, fc.uint8Array({ minLength: 1, maxLength: 60 }))
    .map(([at, data]): Extent => ({ kind: 'inline', offset: at, lengthBytes: data.length, data })),
  fc.tuple(offset, length, fc.nat(20), fc.nat(255)).map(([at, lengthBytes, blockOffset, id]): Extent => ({
    kind: 'block',
    offset: at,
    lengthBytes,
    pool: 1 as PoolId,
    id: asBlockId(new Uint8Array(32).fill(id)),
    blockOffset,
    blockBytes: blockOffset + lengthBytes + 3,
  })),
);
const extents = fc.array(extent, { maxLength: 3 }).map((list) => {
  const apart: Extent[] = [];
  let end = 0;
  for (const one of list.toSorted((a, b) => a.offset - b.offset)) {
    if (one.offset < end) continue;
    apart.push(one);
    end = one.offset + one.lengthBytes;
  }
  return apart;
});

const keepOpen = fc
  .oneof(fc.boolean(), slot)
  .map((kept) => (ino: (n: number) => Ino) => (typeof kept === 'boolean' ? kept : { unless: ino(kept) }));

type Build = (ino: (n: number) => Ino) => Mutation;
const build: fc.Arbitrary<Build> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(slot, name, fc.constantFrom('file', 'file', 'directory', 'directory', 'symlink', 'fifo'), fc.boolean())
      .map(([parent, n, type, exclusive]): Build => {
        const base = { op: 'make', name: n, mode: 0o666, umask: 0o22, owner: OWNER, rdev: 0, exclusive } as const;
        return (ino) =>
          type === 'symlink'
            ? { ...base, type, parent: ino(parent), target: Buffer.from('over/there') }
            : { ...base, type: type as 'file', parent: ino(parent) };
      }),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(slot, slot, name)
      .map(([i, p, n]): Build => (ino) => ({ op: 'link', ino: ino(i), parent: ino(p), name: n })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(slot, name, keepOpen)
      .map(([p, n, kept]): Build => (ino) => ({ op: 'unlink', parent: ino(p), name: n, keepOpen: kept(ino) })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(slot, name).map(([p, n]): Build => (ino) => ({ op: 'rmdir', parent: ino(p), name: n })),
  },
  {
    weight: 6,
    arbitrary: fc
      .tuple(slot, name, slot, name, fc.constantFrom('plain', 'plain', 'noReplace', 'exchange'), keepOpen)
      .map(([p, n, q, newName, how, kept]): Build => {
        return (ino) => ({
          op: 'rename',
          parent: ino(p),
          name: n,
          newParent: ino(q),
          newName,
          noReplace: how === 'noReplace',
          exchange: how === 'exchange',
          keepOpen: kept(ino),
        });
      }),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(slot, fc.oneof(fc.constant(0), fc.nat(200)))
      .map(([i, sizeBytes]): Build => (ino) => ({ op: 'setattr', ino: ino(i), set: { sizeBytes, mode: 0o600 } })),
  },
  {
    weight: 8,
    arbitrary: fc.tuple(slot, extents, fc.nat(100)).map(([i, list, growToBytes]): Build => (ino) => ({
      op: 'commit',
      ino: ino(i),
      extents: list,
      growToBytes,
      generation: 0,
      mtimeNs: 'now',
    })),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(slot, extents, fc.nat(20)).map(([i, list, more]): Build => (ino) => {
      const from = list.length === 0 ? 0 : list[0]!.offset;
      const to = list.length === 0 ? 0 : extentEnd(list.at(-1)!);
      return { op: 'clone', ino: ino(i), offset: from, lengthBytes: to - from + more, extents: list, generation: 0 };
    }),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(slot, extents).map(([i, list]): Build => (ino) => {
      const extent = list[0] ?? { kind: 'inline', offset: 0, lengthBytes: 1, data: new Uint8Array(1) };
      return { op: 'compact', ino: ino(i), extent, digest: new Uint8Array(32), generation: 0 };
    }),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(slot, offset, length)
      .map(([i, at, lengthBytes]): Build => (ino) => ({ op: 'punch', ino: ino(i), offset: at, lengthBytes })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(slot, name, fc.constantFrom('any', 'create', 'replace'))
      .map(([i, n, mode]): Build => (ino) => ({ op: 'setxattr', ino: ino(i), name: n, value: n, mode: mode as 'any' })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(slot, name).map(([i, n]): Build => (ino) => ({ op: 'removexattr', ino: ino(i), name: n })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(slot, extents, fc.nat(100), fc.nat(60), fc.boolean())
      .map(([i, list, growToBytes, appendAt, rewrites]): Build => (ino) => ({
        op: 'commit',
        ino: ino(i),
        extents: list,
        growToBytes,
        generation: 0,
        mtimeNs: 'now',
        appendAt,
        ...(rewrites && { rewrites: { beforeOffset: appendAt, version: 0 } }),
      })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(slot, fc.constantFrom('access', 'default', 'default'), fc.constantFrom(PLAIN_LIST, LONG_LIST, LONG_LIST))
      .map(([i, kind, value]): Build => (ino) => ({
        op: 'setxattr',
        ino: ino(i),
        name: aclName(kind),
        value,
        mode: 'any',
      })),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(slot, fc.constantFrom('access', 'default'))
      .map(([i, kind]): Build => (ino) => ({ op: 'removexattr', ino: ino(i), name: aclName(kind) })),
  },
  { weight: 1, arbitrary: slot.map((i): Build => (ino) => ({ op: 'accessed', ino: ino(i), atimeNs: 5n })) },
  { weight: 1, arbitrary: slot.map((i): Build => (ino) => ({ op: 'releaseOrphan', ino: ino(i) })) },
  {
    weight: 2,
    arbitrary: slot.map((i): Build => (ino) => ({ op: 'makeNameless', parent: ino(i), mode: 0o600, owner: OWNER })),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.nat(6), fc.array(slot, { maxLength: 3 })).map(([upToNumber, list]): Build => (ino) => ({
      op: 'keepOrphans',
      ino: ROOT_INO,
      upToNumber,
      inos: list.map(ino),
    })),
  },
  {
    weight: 8,
    arbitrary: fc
      .tuple(
        fc.nat(2),
        fc.constantFrom('posix' as const, 'posix' as const, 'flock' as const),
        fc.constantFrom('read' as const, 'write' as const, 'unlock' as const),
        fc.bigInt({ min: 2n ** 64n - 2n, max: 2n ** 64n - 1n }),
        fc.nat(LOCKED_BYTES - 1),
        fc.nat(LOCKED_BYTES - 1),
      )
      .map(([i, kind, type, owner, a, b]): Build => (ino) => ({
        op: 'lock',
        ino: ino(i),
        lock: { kind, type, owner, pid: 7, start: Math.min(a, b), end: Math.max(a, b) },
      })),
  },
);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 30,
    arbitrary: fc
      .tuple(fc.nat(1), fc.integer({ min: 0, max: 9 }), build)
      .map(([session, chance, b]): Step => ({ kind: 'mutate', session, retry: chance === 0, build: b })),
  },
  { weight: 1, arbitrary: fc.nat(1).map((session): Step => ({ kind: 'expire', session })) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: 'reclaim' }) },
  { weight: 3, arbitrary: fc.constant<Step>({ kind: 'flush' }) },
);

class History {
  readonly kv = new TestKv();
  readonly model = new ModelFs();
  readonly commands: Uint8Array[] = [];
  readonly outcomes: Outcome[] = [];
  /** The disk after each flush, and what was applied by then. */
  readonly disks: { kv: TestKv; seq: number }[] = [];
  readonly inos: Ino[] = [ROOT_INO];
  readonly #requests = [0, 0];
  #clock = 1_000_000n;
  store!: MetaStore;

  static async start(): Promise<History> {
    const history = new History();
    history.store = await MetaStore.open({ kv: history.kv });
    for (const session of SESSIONS) await history.open(session);
    return history;
  }

  async apply(command: Command): Promise<Outcome> {
    const bytes = encodeCommand(command);
    expect(encodeCommand(decodeCommand(bytes))).toEqual(bytes);
    this.commands.push(bytes);
    await this.store.apply([{ seq: this.commands.length as Seq, command: bytes }], (_seq, outcome) =>
      this.outcomes.push(outcome),
    );
    return this.outcomes.at(-1)!;
  }

  async open(session: SessionId): Promise<void> {
    await this.apply({ kind: 'openSession', session, nowNs: this.#clock, leaseMs: 1000, label: 'test', answers: true });
    this.model.openSession(session);
  }

  async run(one: Step): Promise<void> {
    if (one.kind === 'flush') {
      await this.store.flush();
      this.disks.push({ kv: this.kv.clone(), seq: this.store.durableSeq });
    } else if (one.kind === 'reclaim') {
      await this.apply({ kind: 'reclaim', maxRows: 2 });
      this.model.settle();
    } else if (one.kind === 'expire') {
      const session = SESSIONS[one.session]!;
      await this.apply({ kind: 'expireSession', session });
      this.model.endSession(session);
      await this.open(session);
      this.#requests[one.session] = 0;
    } else {
      await this.mutate(one);
    }
  }

  async mutate({ session: index, retry, build: b }: Step & { kind: 'mutate' }): Promise<void> {
    const session = SESSIONS[index]!;
    const mutation = b((n) => this.inos[n % this.inos.length]!);
    const requestId = ++this.#requests[index]!;
    const ackedBelow = Math.max(1, requestId - 2);
    const command: Command = { kind: 'client', session, requestId, ackedBelow, nowNs: (this.#clock += 10n), mutation };
    const outcome = await this.apply(command);
    const given = outcome.ok ? outcome.result.attr?.ino : undefined;
    const expected = this.model.apply(session, mutation, () => given!);
    if (expected.ok) expect(outcome).toMatchObject({ ok: true });
    else expect(outcome).toEqual({ ok: false, code: expected.code });
    if (expected.ok && expected.ino !== undefined) expect(given).toBe(expected.ino);
    if ((mutation.op === 'make' || mutation.op === 'makeNameless') && outcome.ok && outcome.result.created === true)
      this.inos.push(given!);
    if (retry) expect(await this.apply({ ...command, nowNs: (this.#clock += 10n) })).toEqual(outcome);
  }

  /** Everything a client can see is as the model says. */
  async check(): Promise<void> {
    const { store, model } = this;
    let storedTotal = 0;
    const paths = model.paths();
    for (const ino of this.inos) {
      const node = model.nodes.get(ino);
      if (node === undefined) {
        expect(() => store.query<'getattr'>({ op: 'getattr', ino })).toThrow(/ENOENT/);
        continue;
      }
      const { attr } = await store.query<'getattr'>({ op: 'getattr', ino });
      expect(attr).toMatchObject({ type: node.type, nlink: node.nlink });
      if (node.parent !== undefined) expect(attr.parent).toBe(node.parent.ino);
      const found = await store.query<'paths'>({ op: 'paths', ino });
      expect(found.paths.map((path) => Buffer.from(path).toString('latin1')).sort()).toEqual(
        (paths.get(ino) ?? []).sort(),
      );
      const { names } = await store.query<'listxattr'>({ op: 'listxattr', ino });
      expect(names.map((n) => Buffer.from(n).toString('latin1'))).toEqual([...node.xattrs.keys()].sort());
      expect(attr.hasAcl).toBe(node.xattrs.has('system.posix_acl_access'));
      expect(attr.hasDefaultAcl).toBe(node.xattrs.has('system.posix_acl_default'));
      if (attr.hasAcl) {
        const { value } = await store.query<'getxattr'>({ op: 'getxattr', ino, name: aclName('access') });
        expect(modeWithAcl(attr.mode, decodeAcl(value)!)).toBe(attr.mode);
      }
      if (node.type === 'directory') await this.#checkDirectory(ino);
      if (node.type === 'file') {
        expect(attr.sizeBytes).toBe(node.data.length);
        const all = await this.#extents(ino, 2);
        expect(contentOf(attr.sizeBytes, all)).toEqual(node.data);
        const stored = node.stored.reduce((sum, one) => sum + one, 0);
        expect(attr.storedBytes).toBe(stored);
        storedTotal += stored;
      }
    }
    expect(await store.query<'statfs'>({ op: 'statfs' })).toEqual({
      inodeCount: model.nodes.size,
      storedBytes: storedTotal,
    });
    await this.#checkAllExtents();
    await this.#checkLocks();
  }

  /** Byte by byte, and page by page. */
  async #checkLocks(): Promise<void> {
    const expected: string[] = [];
    for (const [key, bytes] of this.model.locks) {
      bytes.forEach((holders, at) => {
        for (const [holder, type] of holders) expected.push(`${key} ${at} ${holder} ${type}`);
      });
    }
    const listed: string[] = [];
    for (let from = 0, more = true; more;) {
      const query = { op: 'locks', ino: from as Ino, lastIno: Number.MAX_SAFE_INTEGER, limit: 1 } as const;
      const page = await this.store.query<'locks'>(query);
      for (const { ino, locks } of page.files) {
        expect(locks.length).toBeGreaterThan(0);
        expect((await this.store.query<'locks'>({ ...query, ino, lastIno: ino })).files).toEqual([{ ino, locks }]);
        for (const { kind, start, end, session, owner, type } of locks) {
          for (let at = start; at <= end; at++) listed.push(`${ino} ${kind} ${at} ${session} ${owner} ${type}`);
        }
        from = ino + 1;
      }
      more = page.more;
    }
    expect(listed.sort()).toEqual(expected.sort());
  }

  async #checkDirectory(ino: Ino): Promise<void> {
    const node = this.model.nodes.get(ino)!;
    const listed: [string, number][] = [];
    for (let after = new Uint8Array(0) as Uint8Array, more = true; more;) {
      const page = await this.store.query<'readdir'>({ op: 'readdir', ino, after, limit: 2, withAttrs: true });
      expect(page.attr.sizeBytes).toBe(node.entries.size);
      for (const entry of page.entries) {
        expect(entry.attr).toMatchObject({ ino: entry.ino, type: entry.type });
        listed.push([Buffer.from(entry.name).toString('latin1'), entry.ino]);
      }
      more = page.more;
      if (more) after = page.entries.at(-1)!.name;
    }
    expect(listed).toEqual(
      [...node.entries].map(([n, child]) => [n, child.ino] as [string, number]).sort((a, b) => (a[0] < b[0] ? -1 : 1)),
    );
  }

  async #extents(ino: Ino, limit: number): Promise<Extent[]> {
    const all: Extent[] = [];
    for (let at = 0, more = true; more;) {
      const page = await this.store.query<'extents'>({ op: 'extents', ino, offset: at, lengthBytes: 1000 - at, limit });
      all.push(...page.extents);
      more = page.more;
      if (more) at = page.extents.at(-1)!.offset + page.extents.at(-1)!.lengthBytes;
    }
    return all;
  }

  async #checkAllExtents(): Promise<void> {
    const expected: [number, number][] = [];
    for (const ino of this.inos) {
      if (this.model.nodes.get(ino)?.type !== 'file') continue;
      for (const one of await this.#extents(ino, 100)) if (one.kind === 'block') expected.push([ino, one.offset]);
    }
    const listed: [number, number][] = [];
    for (let cursor: [number, number] = [0, 0], more = true; more;) {
      const page = await this.store.query<'allExtents'>({
        op: 'allExtents',
        afterIno: cursor[0],
        afterOffset: cursor[1],
        limit: 3,
      });
      for (const item of page.items) listed.push([item.ino, item.extent.offset]);
      more = page.more;
      if (more) cursor = listed.at(-1)!;
    }
    expect(listed).toEqual(expected.sort((a, b) => a[0] - b[0] || a[1] - b[1]));
  }
}

async function replay(
  kv: TestKv,
  commands: readonly Uint8Array[],
  batch: number,
  overlayMaxBytes?: number,
): Promise<{ store: MetaStore; outcomes: Outcome[] }> {
  const store = await MetaStore.open({ kv, ...(overlayMaxBytes !== undefined && { overlayMaxBytes }) });
  const outcomes: Outcome[] = [];
  for (let at = store.appliedSeq as number; at < commands.length; at += batch) {
    const entries = commands.slice(at, at + batch).map((command, i) => ({ seq: (at + i + 1) as Seq, command }));
    await store.apply(entries, (_seq, outcome) => outcomes.push(outcome));
  }
  return { store, outcomes };
}

describe('namespace', () => {
  it('does what the model does, on every replica, whenever it is flushed or crashes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 80, size: 'max' }), async (steps) => {
        const history = await History.start();
        for (const one of steps) await history.run(one);
        await history.check();
        const { digest } = await history.store.digest();
        // Another replica, flushed at other times, in batches.
        const other = await replay(new TestKv(), history.commands, 7, 3000);
        expect(other.outcomes).toEqual(history.outcomes);
        expect((await other.store.digest()).digest).toBe(digest);
        // A crash after any flush: the log is replayed from there.
        for (const disk of history.disks.slice(-3)) {
          const again = await replay(disk.kv, history.commands, 1000);
          expect(again.outcomes).toEqual(history.outcomes.slice(disk.seq));
          expect((await again.store.digest()).digest).toBe(digest);
        }
      }),
      { numRuns: Number(process.env['TATAMIFS_FUZZ_RUNS'] ?? 30) },
    );
  }, 60_000);
});
