import { beforeEach, expect, it } from 'vitest';
import { ROOT_INO, type Ino } from '../ids.ts';
import { LocalMetaClient } from './local-client.ts';
import { MetaStore } from './meta-store.ts';
import { bytes, OWNER, TestKv } from './testing.ts';

let kv: TestKv;
let store: MetaStore;
let client: LocalMetaClient;
let gets = 0;

beforeEach(async () => {
  kv = new TestKv();
  const { get } = kv;
  kv.get = (key) => (gets++, get.call(kv, key));
  store = await MetaStore.open({ kv });
  client = await LocalMetaClient.open({ store, wallNs: () => 1n });
});

async function make(parent: Ino, name: string, type: 'file' | 'directory' = 'file'): Promise<Ino> {
  const named = { parent, name: bytes(name), type, mode: 0o644, owner: OWNER, rdev: 0, exclusive: true };
  return (await client.mutate({ op: 'make', ...named })).attr!.ino;
}

async function madeNext(ino: Ino, after: Ino, limit: number) {
  const { entries, upToIno } = await client.query<'madeNext'>({ op: 'madeNext', ino, after, limit });
  return { names: entries.map(({ name, attr }) => `${Buffer.from(name).toString()}=${attr.ino}`), upToIno };
}

it('tells the names of one directory in the order of inode numbers, as many as are asked for', async () => {
  const directory = await make(ROOT_INO, 'd', 'directory');
  const [b, other, a, c] = [
    await make(directory, 'b'),
    await make(ROOT_INO, 'other'),
    await make(directory, 'a'),
    await make(directory, 'c'),
  ];
  const whole = { names: [`b=${b}`, `a=${a}`, `c=${c}`], upToIno: Number.MAX_SAFE_INTEGER };
  expect(await madeNext(directory, directory, 100)).toEqual(whole);
  await store.flush();
  expect(await madeNext(directory, directory, 100)).toEqual(whole);
  expect(await madeNext(directory, a, 100)).toEqual({ ...whole, names: [`c=${c}`] });
  // What is in between counts, and the last number may go on.
  expect(await madeNext(directory, directory, 2)).toEqual({ names: [`b=${b}`], upToIno: other - 1 });
  await client.mutate({ op: 'unlink', parent: directory, name: bytes('a'), keepOpen: false });
  await client.mutate({ op: 'link', ino: other, parent: directory, name: bytes('z') });
  expect(await madeNext(directory, directory, 100)).toEqual({
    ...whole,
    names: [`b=${b}`, `z=${other}`, `c=${c}`],
  });
});

it('reads the rows of hundreds of names by two ranges, not one by one', async () => {
  const directory = await make(ROOT_INO, 'd', 'directory');
  for (let index = 0; index < 200; index++) await make(directory, `file-${index}`);
  await store.flush();
  // Anew, so that no row is in memory.
  store = await MetaStore.open({ kv });
  client = await LocalMetaClient.open({ store, wallNs: () => 1n });
  gets = 0;
  expect((await madeNext(directory, directory, 512)).names).toHaveLength(200);
  expect(gets).toBe(0);
});
