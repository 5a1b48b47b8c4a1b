/** Assigning directories, over the metadata alone. */
import { describe, expect, it } from 'vitest';
import { ROOT_INO, type Ino, type PoolId } from '../ids.ts';
import { bytes, openLocal, OWNER } from '../meta/testing.ts';
import type { Attr, MetaClient, Mutation } from '../meta/types.ts';
import { assignPool } from './pools.ts';

const [FILES, FAST, SLOW] = [1, 5, 6] as PoolId[] as [PoolId, PoolId, PoolId];

async function tree() {
  const { client } = await openLocal();
  const made = new Map<string, Ino>([['', ROOT_INO]]);
  const make = async (path: string, meta: MetaClient = client): Promise<void> => {
    const cut = path.lastIndexOf('/');
    const name = bytes(path.slice(cut + 1));
    const parent = made.get(path.slice(0, cut))!;
    const mutation = {
      op: 'make',
      parent,
      name,
      type: 'directory',
      mode: 0o755,
      owner: OWNER,
      rdev: 0,
      exclusive: true,
    };
    made.set(path, (await meta.mutate(mutation as Mutation)).attr!.ino);
  };
  for (const path of ['/a', '/a/b', '/a/b/c', '/a/b/c/d', '/a/x', '/a/x/y', '/z']) await make(path);
  const attr = async (path: string): Promise<Attr> =>
    (await client.query<'getattr'>({ op: 'getattr', ino: made.get(path)! })).attr;
  const assign = async (path: string, pool: PoolId, all = false, meta: MetaClient = client) =>
    assignPool({ meta, directory: await attr(path), pool, all });
  const poolsOf = async () =>
    Object.fromEntries(
      await Promise.all([...made.keys()].filter(Boolean).map(async (path) => [path, (await attr(path)).pool] as const)),
    );
  return { client, make, assign, poolsOf };
}

describe('a directory', () => {
  it('is assigned with those below that follow it; others keep what they have, unless all are meant', async () => {
    const { assign, poolsOf } = await tree();
    expect(await assign('/a/b', SLOW)).toEqual({ count: 3, keptCount: 0 });
    expect(await assign('/a', FAST)).toEqual({ count: 3, keptCount: 1 });
    const now = { '/a': FAST, '/a/x': FAST, '/a/x/y': FAST, '/z': FILES };
    expect(await poolsOf()).toEqual({ ...now, '/a/b': SLOW, '/a/b/c': SLOW, '/a/b/c/d': SLOW });
    expect(await assign('/a', FAST)).toEqual({ count: 1, keptCount: 1 });
    expect(await assign('/a', FAST, true)).toEqual({ count: 4, keptCount: 0 });
    expect(await poolsOf()).toEqual({ ...now, '/a/b': FAST, '/a/b/c': FAST, '/a/b/c/d': FAST });
  });

  it('takes along what is made below meanwhile, and can be assigned again after an interruption', async () => {
    const { client, make, assign, poolsOf } = await tree();
    let count = 0;
    const disturbed: MetaClient = {
      sessionId: client.sessionId,
      query: (query, options) => client.query(query, options),
      waitForLock: (ino, lock, options) => client.waitForLock(ino, lock, options),
      sync: () => client.sync(),
      close: () => client.close(),
      async mutate(mutation) {
        if (mutation.op === 'setattr') {
          if (++count === 2) throw new Error('interrupted');
          await make(`/a/b/new${count}`);
          await make(`/a/b/new${count}/below`);
        }
        return client.mutate(mutation);
      },
    };
    await expect(assign('/a', FAST, false, disturbed)).rejects.toThrow('interrupted');
    expect((await poolsOf())['/a']).toBe(FILES);
    const { count: assigned } = await assign('/a', FAST, false, disturbed);
    expect(assigned).toBeGreaterThan(8);
    const { '/z': z, ...others } = await poolsOf();
    expect([z, ...new Set(Object.values(others))]).toEqual([FILES, FAST]);
  });
});
