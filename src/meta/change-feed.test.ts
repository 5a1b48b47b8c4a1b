import { beforeEach, expect, it } from 'vitest';
import { ROOT_INO, type Seq, type SessionId } from '../ids.ts';
import { ChangeFeed } from './change-feed.ts';
import { direntKey, extentKey, inodeKey } from './keys.ts';
import { LocalMetaClient } from './local-client.ts';
import { MetaStore } from './meta-store.ts';
import { bytes, OWNER, TestKv } from './testing.ts';

const session = (digit: string): SessionId => digit.repeat(32) as SessionId;
const [OWN, OTHER] = [session('a'), session('b')];

function ask(feed: ChangeFeed, after?: number, limit = 100) {
  const asked = { op: 'changes', ino: ROOT_INO, session: OWN, limit } as const;
  const { inos, names, upToSeq, missed } = feed.since(after === undefined ? asked : { ...asked, after });
  const paths = names.map(({ parent, name }) => `${parent}/${Buffer.from(name).toString()}`);
  return { inos, paths, upToSeq, missed };
}

function feedOf(entries: readonly (readonly [SessionId | undefined, ...string[]])[], capacity?: number): ChangeFeed {
  const feed = new ChangeFeed(10 as Seq, capacity);
  entries.forEach(([from, ...keys], index) => feed.applied((11 + index) as Seq, from, keys));
  return feed;
}

it('tells the inodes and names that others have changed, each once', () => {
  const feed = feedOf([
    [OTHER, direntKey(1, 'x'), inodeKey(7), inodeKey(1), extentKey(7, 0)],
    [OWN, direntKey(1, 'own'), inodeKey(8), inodeKey(1)],
    [undefined, inodeKey(9)],
    [OTHER, inodeKey(7)],
    [OTHER, extentKey(7, 0)],
  ]);
  expect(ask(feed, 10)).toEqual({ inos: [7, 1, 9], paths: ['1/x'], upToSeq: 15, missed: false });
  expect(ask(feed, 12)).toEqual({ inos: [9, 7], paths: [], upToSeq: 15, missed: false });
  expect(ask(feed, 15)).toEqual({ inos: [], paths: [], upToSeq: 15, missed: false });
  expect(ask(feed)).toEqual({ inos: [], paths: [], upToSeq: 15, missed: false });
});

it('tells whole commands, a page at a time', () => {
  const feed = feedOf([
    [OTHER, inodeKey(1), inodeKey(2)],
    [OTHER, inodeKey(3), inodeKey(4)],
    [OTHER, inodeKey(5)],
  ]);
  expect(ask(feed, 10, 3)).toEqual({ inos: [1, 2, 3, 4], paths: [], upToSeq: 12, missed: false });
  expect(ask(feed, 12, 3)).toEqual({ inos: [5], paths: [], upToSeq: 13, missed: false });
});

it('says when it does not remember, or is of another table', () => {
  const feed = feedOf(
    Array.from({ length: 5 }, (_, index) => [OTHER, inodeKey(index + 1), inodeKey(100)] as const),
    4,
  );
  // Of seq 13 both are there, of seq 12 not even one.
  expect(ask(feed, 12).missed).toBe(true);
  expect(ask(feed, 13)).toEqual({ inos: [4, 100, 5], paths: [], upToSeq: 15, missed: false });
  expect(ask(feed, 9).missed).toBe(true);
  expect(ask(feed, 16)).toEqual({ inos: [], paths: [], upToSeq: 15, missed: true });
});

it('of a command of which a part is forgotten says that it does not remember', () => {
  const feed = feedOf([[OTHER, inodeKey(1), inodeKey(2), inodeKey(3)]], 2);
  expect(ask(feed, 10).missed).toBe(true);
});

let store: MetaStore;
beforeEach(async () => {
  store = await MetaStore.open({ kv: new TestKv() });
});

it('hears of what a command has changed, and of nothing where it was refused', async () => {
  const wallNs = () => 1n;
  const [own, other] = [
    await LocalMetaClient.open({ store, wallNs, sessionId: OWN }),
    await LocalMetaClient.open({ store, wallNs, sessionId: OTHER }),
  ];
  const changes = (after?: number) =>
    own.query<'changes'>({
      op: 'changes',
      ino: ROOT_INO,
      session: OWN,
      limit: 100,
      ...(after !== undefined && { after }),
    });
  let { upToSeq } = await changes();
  const what = { op: 'make', parent: ROOT_INO, type: 'file', mode: 0o644, owner: OWNER, rdev: 0 } as const;
  const made = await other.mutate({ ...what, name: bytes('f'), exclusive: true });
  const ino = made.attr!.ino;
  const told = await changes(upToSeq);
  expect(told).toMatchObject({ inos: [ROOT_INO, ino], names: [{ parent: ROOT_INO }], missed: false });
  expect(Buffer.from(told.names[0]!.name).toString()).toBe('f');
  ({ upToSeq } = told);
  await expect(other.mutate({ ...what, name: bytes('f'), exclusive: true })).rejects.toMatchObject({ code: 'EEXIST' });
  await own.mutate({ op: 'setattr', ino, set: { mode: 0o600 } });
  expect(await changes(upToSeq)).toMatchObject({ inos: [], names: [] });
  await other.mutate({ op: 'setxattr', ino, name: bytes('user.a'), value: bytes('1'), mode: 'any' });
  expect(await changes(upToSeq)).toMatchObject({ inos: [ino], names: [] });
});

it('begins anew where a table is taken up', async () => {
  const kv = new TestKv();
  const first = await MetaStore.open({ kv });
  const client = await LocalMetaClient.open({ store: first, wallNs: () => 1n });
  await client.sync();
  const asked = { op: 'changes', ino: ROOT_INO, session: OWN, limit: 9 } as const;
  const { upToSeq } = await client.query<'changes'>(asked);
  const again = await MetaStore.open({ kv });
  expect(await again.query({ ...asked, after: upToSeq })).toMatchObject({ upToSeq, missed: false });
  expect(await again.query({ ...asked, after: upToSeq - 1 })).toMatchObject({ upToSeq, missed: true });
});
