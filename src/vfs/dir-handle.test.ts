import { expect, it } from 'vitest';
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import type { Attr, QueryOf, QueryResults } from '../meta/types.ts';
import { DirHandle } from './dir-handle.ts';
import { DIRECTORY_WINDOW } from './options.ts';

const attr = { ino: 1, type: 'directory' } as Attr;
const stamps = { inodes: () => 1, names: () => 2, nowMs: () => 3 };
const COUNT = 2 * DIRECTORY_WINDOW + 10;
const nameOf = (index: number) => `name-${String(index).padStart(5, '0')}`;

/** A server with a directory of COUNT names, and what it was asked. */
function server() {
  const asked: string[] = [];
  let failNext = false;
  const ask = async (query: QueryOf<'readdir'>): Promise<QueryResults['readdir']> => {
    asked.push(Buffer.from(query.after).toString());
    if (failNext) {
      failNext = false;
      throw new FsError('EIO');
    }
    const from = query.after.length === 0 ? 0 : Number(Buffer.from(query.after).toString().slice(5)) + 1;
    const count = Math.min(query.limit, COUNT - from);
    const entries = Array.from({ length: count }, (_, index) => {
      return { name: Buffer.from(nameOf(from + index)), ino: (from + index + 2) as Ino, type: 'file' as const };
    });
    return { entries, more: from + count < COUNT, attr };
  };
  return { asked, ask, fail: () => (failNext = true) };
}

async function readAll(opened: DirHandle, ask: ReturnType<typeof server>['ask']): Promise<string[]> {
  const names: string[] = [];
  for (;;) {
    let listed = opened.from(names.length, 100);
    if (listed === undefined) {
      await opened.fetch(names.length, true, ask);
      listed = opened.from(names.length, 100) ?? [];
    }
    if (listed.length === 0) return names;
    names.push(...listed.map(({ name }) => Buffer.from(name).toString()));
  }
}

it('asks for the next names while the last ones are read, and for each window once', async () => {
  const { asked, ask } = server();
  const opened = new DirHandle(1 as Ino, stamps);
  await opened.fetch(0, true, ask);
  const ends = ['', nameOf(DIRECTORY_WINDOW - 1), nameOf(2 * DIRECTORY_WINDOW - 1)];
  expect(asked).toEqual(ends.slice(0, 2));
  expect(await readAll(opened, ask)).toEqual(Array.from({ length: COUNT }, (_, index) => nameOf(index)));
  expect(asked).toEqual(ends);
});

it('asks again where asking ahead failed, and tells of a failure only who reads there', async () => {
  const { asked, ask, fail } = server();
  const opened = new DirHandle(1 as Ino, stamps);
  const asking = opened.fetch(0, true, (query) => {
    if (query.after.length > 0) fail();
    return ask(query);
  });
  await asking;
  expect(asked).toHaveLength(2);
  expect(await readAll(opened, ask)).toHaveLength(COUNT);
  expect(asked).toHaveLength(4);
});

it('a new pass does not take what was asked ahead for the old one', async () => {
  const { asked, ask } = server();
  const opened = new DirHandle(1 as Ino, stamps);
  await opened.fetch(0, true, ask);
  opened.rewind();
  expect(await readAll(opened, ask)).toHaveLength(COUNT);
  expect(asked.filter((after) => after === '')).toHaveLength(2);
  expect(asked).toHaveLength(5);
});
