import { describe, expect, it } from 'vitest';
import { FsError } from '../errors.ts';
import { asBlockId, ROOT_INO, type Ino, type PoolId, type Seq, type SessionId } from '../ids.ts';
import { ByteWriter } from './bytes.ts';
import { digestExtents } from './extent-digest.ts';
import { keyToBytes } from './keys.ts';
import { MetaStore } from './meta-store.ts';
import { bytes, inline, openLocal, OWNER, TestKv } from './testing.ts';
import type { Mutation } from './types.ts';

const make = (parent: Ino, name: string, type: 'file' | 'directory' = 'file'): Mutation => ({
  op: 'make',
  parent,
  name: bytes(name),
  type,
  mode: 0o644,
  owner: OWNER,
  rdev: 0,
  exclusive: true,
});

describe('MetaStore behind LocalMetaClient', () => {
  it('gives the root of a new table to its owner, and keeps what it is in an old one', async () => {
    const kv = new TestKv();
    const ownerOf = async (rootOwner?: { uid: number; gid: number }) => {
      const store = await MetaStore.open({ kv, ...(rootOwner === undefined ? {} : { rootOwner }) });
      const { attr } = await store.query<'getattr'>({ op: 'getattr', ino: ROOT_INO });
      return [attr.uid, attr.gid];
    };
    expect(await ownerOf({ uid: 1000, gid: 1001 })).toEqual([1000, 1001]);
    expect(await ownerOf()).toEqual([1000, 1001]);
  });

  it('makes, finds, lists and removes', async () => {
    const { client } = await openLocal();
    const dir = (await client.mutate(make(ROOT_INO, 'dir', 'directory'))).attr!;
    expect(dir).toMatchObject({ type: 'directory', nlink: 2, parent: ROOT_INO, sizeBytes: 0 });
    const file = (await client.mutate(make(dir.ino, 'file'))).attr!;
    expect((await client.query<'lookup'>({ op: 'lookup', parent: dir.ino, name: bytes('file') })).attr).toEqual(file);
    const root = await client.query<'readdir'>({
      op: 'readdir',
      ino: ROOT_INO,
      after: bytes(''),
      limit: 10,
      withAttrs: true,
    });
    expect(root).toMatchObject({
      entries: [{ ino: dir.ino, type: 'directory' }],
      more: false,
      attr: { nlink: 3, sizeBytes: 1 },
    });
    const { paths } = await client.query<'paths'>({ op: 'paths', ino: file.ino });
    expect(paths.map((path) => Buffer.from(path).toString())).toEqual(['/dir/file']);
    await expect(client.mutate({ op: 'rmdir', parent: ROOT_INO, name: bytes('dir') })).rejects.toThrow(FsError);
    await client.mutate({ op: 'unlink', parent: dir.ino, name: bytes('file'), keepOpen: false });
    await client.mutate({ op: 'rmdir', parent: ROOT_INO, name: bytes('dir') });
    expect(await client.query<'statfs'>({ op: 'statfs' })).toEqual({ inodeCount: 1, storedBytes: 0 });
  });

  it('gives a file as many names as ext4 does, and no more', async () => {
    const { client } = await openLocal();
    const { ino } = (await client.mutate(make(ROOT_INO, 'f'))).attr!;
    const link = (n: number) => client.mutate({ op: 'link', ino, parent: ROOT_INO, name: bytes(`f${n}`) });
    for (let n = 1; n < 65_000; n++) await link(n);
    await expect(link(65_000)).rejects.toMatchObject({ code: 'EMLINK' });
    await client.mutate({ op: 'unlink', parent: ROOT_INO, name: bytes('f1'), keepOpen: false });
    expect((await link(65_000)).attr).toMatchObject({ nlink: 65_000 });
    const { paths } = await client.query<'paths'>({ op: 'paths', ino });
    expect(paths.length).toBe(65_000);
  }, 120_000);

  it('commits and reads extents', async () => {
    const { client, store } = await openLocal();
    const { ino } = (await client.mutate(make(ROOT_INO, 'f'))).attr!;
    const data = new Uint8Array(100).fill(7);
    await client.mutate({ op: 'commit', ino, extents: [inline(0, data)], growToBytes: 100, mtimeNs: 'now' });
    await store.flush();
    await client.mutate({
      op: 'commit',
      ino,
      extents: [inline(40, data.subarray(0, 10))],
      growToBytes: 0,
      mtimeNs: 'now',
    });
    const found = await client.query<'extents'>({ op: 'extents', ino, offset: 0, lengthBytes: 1000, limit: 10 });
    expect(found.extents.map(({ offset, lengthBytes }) => [offset, lengthBytes])).toEqual([
      [0, 40],
      [40, 10],
      [50, 50],
    ]);
    expect(found.attr).toMatchObject({ sizeBytes: 100, storedBytes: 100 });
    await client.mutate({ op: 'setattr', ino, set: { sizeBytes: 0 } });
    expect(store.deadCount).toBe(0);
    expect((await client.query<'statfs'>({ op: 'statfs' })).storedBytes).toBe(0);
  });

  it('keeps an orphan until it is released', async () => {
    const { client } = await openLocal();
    const { ino } = (await client.mutate(make(ROOT_INO, 'f'))).attr!;
    const { victim } = await client.mutate({ op: 'unlink', parent: ROOT_INO, name: bytes('f'), keepOpen: true });
    expect(victim).toMatchObject({ ino, nlink: 0 });
    expect((await client.query<'getattr'>({ op: 'getattr', ino })).attr.nlink).toBe(0);
    await client.mutate({ op: 'releaseOrphan', ino });
    await expect(client.query<'getattr'>({ op: 'getattr', ino })).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('refuses an unknown session', async () => {
    const { client } = await openLocal();
    const session = 'f'.repeat(32) as SessionId;
    const outcome = await client.propose({
      kind: 'client',
      session,
      requestId: 1,
      ackedBelow: 1,
      nowNs: 1n,
      mutation: make(ROOT_INO, 'f'),
    });
    expect(outcome).toEqual({ ok: false, code: 'ERR_SESSION_EXPIRED' });
  });
});

describe('MetaStore', () => {
  it('gives back the rows of big files bit by bit', async () => {
    const { client, store } = await openLocal();
    const { ino } = (await client.mutate(make(ROOT_INO, 'f'))).attr!;
    const extents = Array.from({ length: 50 }, (_, n) => inline(n * 10, bytes('0123456789')));
    const write: Mutation = { op: 'commit', ino, extents, growToBytes: 0, mtimeNs: 'now' };
    await client.mutate(write);
    await store.flush();
    const before = (await rowCount(store)) - 50;
    await client.mutate({ op: 'setxattr', ino, name: bytes('user.x'), value: bytes('v'), mode: 'any' });
    const seq = store.appliedSeq;
    const command = {
      kind: 'client',
      session: client.sessionId,
      requestId: 1000,
      ackedBelow: 1000,
      nowNs: 1n,
    } as const;
    await store.apply([
      { seq: (seq + 1) as Seq, command: { ...command, mutation: { op: 'setattr', ino, set: { sizeBytes: 0 } } } },
      { seq: (seq + 2) as Seq, command: { ...command, requestId: 1001, mutation: write } },
      {
        seq: (seq + 3) as Seq,
        command: {
          ...command,
          requestId: 1002,
          mutation: { op: 'unlink', parent: ROOT_INO, name: bytes('f'), keepOpen: false },
        },
      },
    ]);
    expect(await store.query<'statfs'>({ op: 'statfs' })).toEqual({ inodeCount: 1, storedBytes: 0 });
    // The inode's own number (first extents, attribute) and the one that truncation gave it.
    expect(store.deadCount).toBe(2);
    let steps = 0;
    for (; store.deadCount > 0; steps++) {
      await store.apply([{ seq: (store.appliedSeq + 1) as Seq, command: { kind: 'reclaim', maxRows: 8 } }]);
      if (steps % 5 === 0) await store.flush();
    }
    expect(steps).toBeGreaterThan(12);
    // The file's inode, entry and back pointer are gone too.
    expect(await rowCount(store)).toBe(before - 3);
  });

  it('copies itself as a whole to a learner', async () => {
    const { client, store } = await openLocal();
    for (let n = 0; n < 100; n++) await client.mutate(make(ROOT_INO, `f${n}`));
    const copy = await store.export();
    await client.mutate(make(ROOT_INO, 'later'));
    await store.flush();

    const kv = new TestKv();
    const { client: learnersOld, store: learner } = await openLocal(kv);
    await learnersOld.mutate(make(ROOT_INO, 'what the learner had'));
    await learner.beginImport();
    expect(() => learner.query<'statfs'>({ op: 'statfs' })).toThrow(/incomplete/);
    expect((await MetaStore.open({ kv: kv.clone() })).incomplete).toBe(true);
    for await (const chunk of copy.chunks) await learner.importChunk(chunk);
    await learner.finishImport(copy.appliedSeq);
    expect(learner.incomplete).toBe(false);
    expect(learner.appliedSeq).toBe(copy.appliedSeq);
    expect(learner.hasSession(client.sessionId)).toBe(true);
    expect(await learner.query<'statfs'>({ op: 'statfs' })).toMatchObject({ inodeCount: 101 });
    expect((await learner.digest()).digest).not.toBe((await store.digest()).digest);
    const entries = [{ seq: (copy.appliedSeq + 1) as Seq, command: { kind: 'noop' } as const }];
    await learner.apply(entries);
    const reopened = await MetaStore.open({ kv });
    expect(reopened.incomplete).toBe(false);
    expect(reopened.appliedSeq).toBe(copy.appliedSeq);
  });

  it('goes on after a flush that failed, and loses nothing', async () => {
    const kv = new TestKv();
    const { client, store } = await openLocal(kv);
    await client.mutate(make(ROOT_INO, 'a'));
    kv.batchError = new Error('no space');
    await expect(store.flush()).rejects.toThrow('no space');
    await client.mutate(make(ROOT_INO, 'b'));
    expect(store.durableSeq).toBe(0);
    kv.batchError = undefined;
    await store.flush();
    expect(store.durableSeq).toBe(store.appliedSeq);
    const reopened = await MetaStore.open({ kv });
    expect((await reopened.digest()).digest).toBe((await store.digest()).digest);
    expect(await reopened.query<'statfs'>({ op: 'statfs' })).toMatchObject({ inodeCount: 3 });
  });

  it('answers a listing from the moment it was asked', async () => {
    const { client, store } = await openLocal(new TestKv(), 500);
    for (let n = 0; n < 20; n++) await client.mutate(make(ROOT_INO, `f${n}`));
    const listing = store.query<'readdir'>({
      op: 'readdir',
      ino: ROOT_INO,
      after: bytes(''),
      limit: 100,
      withAttrs: false,
    });
    const seq = store.appliedSeq;
    const mutation: Mutation = { op: 'unlink', parent: ROOT_INO, name: bytes('f7'), keepOpen: false };
    const entry = {
      kind: 'client',
      session: client.sessionId,
      requestId: 500,
      ackedBelow: 1,
      nowNs: 1n,
      mutation,
    } as const;
    await store.apply([{ seq: (seq + 1) as Seq, command: entry }]);
    await store.flush();
    expect((await listing).entries).toHaveLength(20);
    expect(
      (await client.query<'readdir'>({ op: 'readdir', ino: ROOT_INO, after: bytes(''), limit: 100, withAttrs: false }))
        .entries,
    ).toHaveLength(19);
  });

  it('refuses gaps, blocks from before a collection, and a newer format', async () => {
    const { client, store, kv } = await openLocal();
    const { ino } = (await client.mutate(make(ROOT_INO, 'f'))).attr!;
    expect(() => store.apply([{ seq: 99 as Seq, command: { kind: 'noop' } }])).toThrow(/cannot be applied after/);
    await client.propose({ kind: 'gcBarrier', generation: 5 });
    const block = {
      kind: 'block',
      offset: 0,
      lengthBytes: 8,
      pool: 1 as PoolId,
      id: asBlockId(new Uint8Array(32)),
      blockOffset: 0,
      blockBytes: 8,
    } as const;
    const commit: Mutation = { op: 'commit', ino, extents: [block], growToBytes: 8, mtimeNs: 'now', generation: 4 };
    await expect(client.mutate(commit)).rejects.toMatchObject({ code: 'ERR_STALE_BLOCKS' });
    const clone: Mutation = { op: 'clone', ino, offset: 0, lengthBytes: 9, extents: [block], generation: 4 };
    await expect(client.mutate(clone)).rejects.toMatchObject({ code: 'ERR_STALE_BLOCKS' });
    await client.mutate({ ...clone, generation: 5 });
    const compact: Mutation = { op: 'compact', ino, extent: block, digest: digestExtents([block]), generation: 4 };
    await expect(client.mutate(compact)).rejects.toMatchObject({ code: 'ERR_STALE_BLOCKS' });
    await client.mutate({ ...compact, generation: 5 });
    // Without blocks there is nothing that a sweep could take.
    await client.mutate({ op: 'clone', ino, offset: 20, lengthBytes: 3, extents: [inline(20, bytes('abc'))] });
    await client.mutate({ ...commit, generation: 5 });
    const format = new ByteWriter().text('tatamifs metadata table').u32(99).finish();
    await kv.batch([{ key: keyToBytes('\0format'), value: format }], { sync: true });
    await expect(MetaStore.open({ kv })).rejects.toThrow(/format 99/);
  });

  it('refuses names and values beyond their limits', async () => {
    const { client } = await openLocal();
    const refused = (mutation: Mutation, code: string): Promise<void> =>
      expect(client.mutate(mutation)).rejects.toMatchObject({ code });
    await refused(make(ROOT_INO, 'n'.repeat(256)), 'ENAMETOOLONG');
    await client.mutate(make(ROOT_INO, 'n'.repeat(255)));
    for (const name of ['', '.', '..', 'a/b', 'a\0b']) await refused(make(ROOT_INO, name), 'EINVAL');
    await refused(make(999 as Ino, 'x'), 'ENOENT');
    const set = {
      op: 'setxattr',
      ino: ROOT_INO,
      name: bytes('user.a'),
      value: new Uint8Array(65_537),
      mode: 'any',
    } as const;
    await refused(set, 'ERANGE');
    await client.mutate({ ...set, value: new Uint8Array(65_536) });
    await refused({ op: 'setattr', ino: ROOT_INO, set: { sizeBytes: 1 } }, 'EISDIR');
  });

  it('sets the pool of a directory: what is made in it from then on has it, what is there or moved in keeps its own', async () => {
    const { client } = await openLocal();
    const dir = (await client.mutate(make(ROOT_INO, 'd', 'directory'))).attr!;
    const old = (await client.mutate(make(dir.ino, 'old'))).attr!;
    const moved = (await client.mutate(make(ROOT_INO, 'moved'))).attr!;
    const set = { op: 'setattr', ino: dir.ino, set: { pool: 5 as PoolId } } as const;
    expect((await client.mutate(set)).attr).toMatchObject({ pool: 5, mode: dir.mode, sizeBytes: 1 });
    const below = (await client.mutate(make(dir.ino, 'below', 'directory'))).attr!;
    const made = (await client.mutate(make(below.ino, 'new'))).attr!;
    await client.mutate({
      ...{ op: 'rename', parent: ROOT_INO, name: bytes('moved'), newParent: dir.ino, newName: bytes('moved') },
      ...{ noReplace: false, exchange: false, keepOpen: false },
    });
    const poolOf = async (ino: Ino) => (await client.query<'getattr'>({ op: 'getattr', ino })).attr.pool;
    expect([below.pool, made.pool, await poolOf(old.ino), await poolOf(moved.ino), await poolOf(ROOT_INO)]).toEqual([
      5, 5, 1, 1, 1,
    ]);
    await expect(client.mutate({ ...set, ino: old.ino })).rejects.toMatchObject({ code: 'ENOTDIR' });
  });

  it('keeps times from going back, but lets users set them', async () => {
    const { client, store } = await openLocal();
    const { ino, ctimeNs } = (await client.mutate(make(ROOT_INO, 'f'))).attr!;
    const attr = await client.mutate({ op: 'setattr', ino, set: { mtimeNs: -5n, atimeNs: 7n } });
    expect(attr.attr).toMatchObject({ mtimeNs: -5n, atimeNs: 7n });
    // A primary whose clock is behind.
    const mutation: Mutation = { op: 'commit', ino, extents: [inline(0, bytes('x'))], growToBytes: 1, mtimeNs: 'now' };
    const command = {
      kind: 'client',
      session: client.sessionId,
      requestId: 700,
      ackedBelow: 1,
      nowNs: 1n,
      mutation,
    } as const;
    await store.apply([{ seq: (store.appliedSeq + 1) as Seq, command }]);
    const after = (await client.query<'getattr'>({ op: 'getattr', ino })).attr;
    expect(after.ctimeNs).toBeGreaterThanOrEqual(ctimeNs);
    expect(after.mtimeNs).toBe(after.ctimeNs);
  });
});

async function rowCount(store: MetaStore): Promise<number> {
  let count = 0;
  for await (const chunk of (await store.export()).chunks) count += chunk.length;
  return count;
}
