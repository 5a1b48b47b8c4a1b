import { expect, it } from 'vitest';
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import type { Attr, QueryOf, QueryResults } from '../meta/types.ts';
import { DirHandle } from './dir-handle.ts';
import { DIRECTORY_WINDOW } from './options.ts';

const attr = { ino: 1, type: 'directory' } as Attr;
const ports = { inodes: () => 1, names: () => 2, nowMs: () => 3, sent: () => Promise.resolve() };
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
  const opened = new DirHandle(1 as Ino, ports);
  await opened.fetch(0, true, ask);
  const ends = ['', nameOf(DIRECTORY_WINDOW - 1), nameOf(2 * DIRECTORY_WINDOW - 1)];
  expect(asked).toEqual(ends.slice(0, 2));
  expect(await readAll(opened, ask)).toEqual(Array.from({ length: COUNT }, (_, index) => nameOf(index)));
  expect(asked).toEqual(ends);
});

it('asks for the next names before it looks at those that have come', async () => {
  const { ask } = server();
  const order: string[] = [];
  const asking = async (query: QueryOf<'readdir'>): Promise<QueryResults['readdir']> => {
    order.push(`asked after ${Buffer.from(query.after).toString()}`);
    const { entries, more } = await ask(query);
    const lookedAt = () => (order.push(`looked at ${entries.length}`), entries);
    const page = { more, attr, lastName: entries.at(-1)!.name };
    return Object.defineProperty(page, 'entries', { get: lookedAt }) as QueryResults['readdir'];
  };
  const sent = async () => void order.push('sent');
  await new DirHandle(1 as Ino, { ...ports, sent }).fetch(0, true, asking);
  const second = `asked after ${nameOf(DIRECTORY_WINDOW - 1)}`;
  expect(order).toEqual(['asked after ', second, 'sent', `looked at ${DIRECTORY_WINDOW}`]);
});

it('of two who wait for the same page one takes it', async () => {
  const { ask } = server();
  const paged = async (query: QueryOf<'readdir'>) => {
    const page = await ask(query);
    return { ...page, lastName: page.entries.at(-1)!.name };
  };
  const opened = new DirHandle(1 as Ino, ports);
  await Promise.all([opened.fetch(0, true, paged), opened.fetch(0, true, paged)]);
  expect(opened.from(0, COUNT)).toHaveLength(DIRECTORY_WINDOW);
  expect(await readAll(opened, paged)).toEqual(Array.from({ length: COUNT }, (_, index) => nameOf(index)));
});

it('asks again where asking ahead failed, and tells of a failure only who reads there', async () => {
  const { asked, ask, fail } = server();
  const opened = new DirHandle(1 as Ino, ports);
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
  const opened = new DirHandle(1 as Ino, ports);
  await opened.fetch(0, true, ask);
  opened.rewind();
  expect(await readAll(opened, ask)).toHaveLength(COUNT);
  expect(asked.filter((after) => after === '')).toHaveLength(2);
  expect(asked).toHaveLength(5);
});

/** A server with names that change. */
function changing(count: number) {
  const names = new Set(Array.from({ length: count }, (_, index) => nameOf(index)));
  const ask = async (query: QueryOf<'readdir'>): Promise<QueryResults['readdir']> => {
    const after = Buffer.from(query.after).toString();
    const rest = [...names].sort().filter((name) => name > after);
    const entries = rest.slice(0, query.limit).map((name) => {
      return { name: Buffer.from(name), ino: 2 as Ino, type: 'file' as const };
    });
    return { entries, more: rest.length > entries.length, attr };
  };
  return { names, ask };
}

/** The first name from an offset on, and its number. */
async function at(opened: DirHandle, number: number, ask: ReturnType<typeof changing>['ask']) {
  if (opened.from(number, 1) === undefined) await opened.fetch(number, true, ask);
  const [listed] = opened.from(number, 1) ?? [];
  return listed === undefined ? undefined : [listed.number, Buffer.from(listed.name).toString()];
}

it('however far back one seeks, an offset is before the name that it was before, or where that is gone the next of them', async () => {
  const count = 8 * DIRECTORY_WINDOW + 100;
  const { names, ask } = changing(count);
  const opened = new DirHandle(1 as Ino, ports);
  expect(await readAll(opened, ask)).toHaveLength(count);
  // Of each ten three go, all of the second window, and as many again come between.
  const isGone = (index: number) =>
    index % 10 < 3 || (index >= DIRECTORY_WINDOW && index < 2 * DIRECTORY_WINDOW) || index === count - 1;
  for (let index = 0; index < count; index++) {
    if (isGone(index)) names.delete(nameOf(index));
    names.add(`${nameOf(index)}-new`);
  }
  for (let step = 0; step < count; step += 97) {
    const number = (step * 5) % count;
    let next = number;
    while (next < count && isGone(next)) next++;
    if (next < count) expect(await at(opened, number, ask)).toEqual([next, nameOf(next)]);
  }
  // From there on all that is left is told, each once.
  const told: string[] = [];
  for (let number = 3; number < count;) {
    const found = await at(opened, number, ask);
    if (found === undefined || (found[0] as number) >= count) break;
    told.push(found[1] as string);
    number = (found[0] as number) + 1;
  }
  const left = Array.from({ length: count }, (_, index) => index).filter((index) => index >= 3 && !isGone(index));
  expect(told).toEqual(left.map(nameOf));
});
