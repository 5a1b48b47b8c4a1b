import { describe, expect, it } from 'vitest';
import { MemoryDisk } from '../env-memory.ts';
import { PackFiles } from './pack-files.ts';

describe('PackFiles', () => {
  it('keeps no handle of a pack that is removed while it is looked into', async () => {
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    /** As a real one may: what is asked for later is done first. */
    class LateUnlink extends MemoryDisk {
      override async unlink(path: string): Promise<void> {
        await gate;
        await super.unlink(path);
      }
    }
    const disk = new LateUnlink();
    await disk.mkdir('/packs');
    const files = new PackFiles(disk, '/packs');
    const writing = await disk.open(files.path(1), 'exclusive');
    await writing.write([new Uint8Array(10_000)], 0);
    await writing.close();
    files.setSize(1, 10_000);
    const look = () => files.use(1, (file) => file.read(new Uint8Array(10), 0));
    const removing = files.remove(1);
    // By who has its name from before.
    expect(files.has(1)).toBe(true);
    expect(await look()).toBe(10);
    go();
    await removing;
    expect(disk.usedBytes).toBe(0);
  });
});
