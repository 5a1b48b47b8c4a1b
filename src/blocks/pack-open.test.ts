import { beforeEach, describe, expect, it } from 'vitest';
import { MemoryDisk } from '../env-memory.ts';
import { NodeClock } from '../env-node.ts';
import { SILENT_LOGGER } from '../log.ts';
import { encodePackHeader, packFileName } from './pack-format.ts';
import { openStoreFile } from './pack-open.ts';

const STORE = '/store/STORE';
const DIR = '/store/packs';
const pack = (number: number): string => `${DIR}/${packFileName(number)}`;

let disk: MemoryDisk;
let salt: bigint;

const open = (): Promise<bigint> =>
  openStoreFile({ disk, clock: new NodeClock(), path: '/store', storeId: 'n1' }, DIR, SILENT_LOGGER);

beforeEach(async () => {
  disk = new MemoryDisk();
  await disk.mkdir(DIR);
  salt = await open();
  for (const number of [1, 2])
    await disk.writeFileAtomic(pack(number), encodePackHeader({ storeId: 'n1', salt, pack: number }));
});

describe('the file STORE', () => {
  it('that is lost is restored from the next pack where the disk cannot read a header', async () => {
    await disk.remove(STORE);
    disk.failNext({ op: 'read', path: pack(1) });
    expect(await open()).toBe(salt);
    expect(await disk.exists(STORE)).toBe(true);
  });

  it('that the disk cannot read is as good as lost', async () => {
    disk.failNext({ op: 'read', path: STORE });
    expect(await open()).toBe(salt);
  });

  it('that is lost, with headers that the disk cannot read, is told of with what to do', async () => {
    await disk.remove(STORE);
    disk.failNext({ op: 'read', path: DIR, times: 2 });
    await expect(open()).rejects.toMatchObject({
      code: 'ERR_CORRUPT',
      message: expect.stringMatching(/STORE .*disk cannot read .*0000000001\.pack/),
      remedy: expect.stringMatching(/errors of this disk/),
      cause: expect.objectContaining({ code: 'EIO' }),
    });
    // Nothing was made up: once the disk can be read again, all is as it was.
    expect(await disk.exists(STORE)).toBe(false);
    expect(await open()).toBe(salt);
  });

  it('that is lost, with headers that are damaged, is told of with what to do', async () => {
    await disk.remove(STORE);
    for (const number of [1, 2]) disk.corrupt(pack(number), 0);
    await expect(open()).rejects.toMatchObject({
      code: 'ERR_CORRUPT',
      remedy: expect.stringMatching(/filled from the others/),
    });
  });

  it('is not touched when it could not be looked at for another reason', async () => {
    disk.failNext({ op: 'open', path: STORE, code: 'EACCES' });
    await expect(open()).rejects.toMatchObject({ code: 'EACCES' });
  });
});
