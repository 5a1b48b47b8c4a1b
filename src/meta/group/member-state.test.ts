import { expect, it } from 'vitest';
import { MemoryDisk } from '../../env-memory.ts';
import { MemberState } from './member-state.ts';

const PATH = '/m/state.json';
const SAID = { bootId: 'run', clean: false, ackedEpoch: 4, fencedEpoch: 3, historyId: '' } as const;

async function start() {
  const disk = new MemoryDisk();
  await disk.mkdir('/m');
  const state = await MemberState.open(disk, PATH);
  expect(state.isNew).toBe(true);
  await state.update(SAID);
  return { disk, state };
}

it('says what it was told, also to the next process', async () => {
  const { disk } = await start();
  const { facts, isNew } = await MemberState.open(disk, PATH);
  expect([facts, isNew]).toEqual([SAID, false]);
});

it('forgets the run of the machine, and nothing else, though the disk is full', async () => {
  const { disk, state } = await start();
  const hasRoom = disk.failNext({ path: PATH, op: 'write', code: 'ENOSPC', times: Infinity });
  for (let times = 0; times < 2; times += 1) await state.forgetRun();
  const forgotten = { ...SAID, bootId: '' };
  expect(state.facts).toEqual(forgotten);
  const next = await MemberState.open(disk, PATH);
  expect([next.facts, next.isNew]).toEqual([forgotten, false]);
  await expect(next.update({ bootId: 'run' })).rejects.toMatchObject({ code: 'ENOSPC' });
  expect((await MemberState.open(disk, PATH)).facts).toEqual(forgotten);
  hasRoom();
  // And may be certain again, once that can be written.
  await next.update({ bootId: 'next run' });
  expect((await MemberState.open(disk, PATH)).facts).toEqual({ ...SAID, bootId: 'next run' });
  expect((await disk.readdir('/m')).filter((name) => name.includes('uncertain'))).toEqual([]);
});

it('forgets it in the file where there is room', async () => {
  const { disk, state } = await start();
  await state.forgetRun();
  expect((await MemberState.open(disk, PATH)).facts).toEqual({ ...SAID, bootId: '' });
  expect(await disk.exists(PATH)).toBe(true);
});
