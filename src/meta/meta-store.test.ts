import { describe, expect, it } from 'vitest';
import { FsError } from '../errors.ts';
import type { Ino, SessionId } from '../ids.ts';
import { ROOT_INO } from '../ids.ts';
import type { Mutation } from './types.ts';
import { bytes, inline, openLocal, OWNER } from './testing.ts';

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
