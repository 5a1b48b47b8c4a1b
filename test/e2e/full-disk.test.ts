/** Small disks that fill up: ENOSPC to the writer, all earlier data readable, deletes work, and gc makes room again. */
import { readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { must, mustTatami, run, tatami, waitUntil } from './support.ts';

const DISK_MIB = 192;
const FILE_BYTES = 8 << 20;

describe('nodes on full disks', () => {
  let directory: string;
  let data: string;
  let mount: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tatami-full-'));
    data = join(directory, 'data');
    mount = join(directory, 'mnt');
    // One small disk under all three nodes: they fill up together, as real ones do that hold equal shares.
    await must('mkdir', ['-p', data]);
    await must('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MIB}m`, 'tatami-test', data]);
    await mustTatami(['up', '--data', data, '--mount', mount, '--copies', '2', '--detach']);
  });
  afterEach(async () => {
    await tatami(['down', '--data', data]);
    await run('umount', ['-l', data]);
    await rm(directory, { recursive: true, force: true });
  });

  it('refuse with ENOSPC, keep what they have, and take more after deletes and gc', async () => {
    const kept = new Map<string, string>();
    let error: NodeJS.ErrnoException | undefined;
    for (let index = 0; error === undefined && index < 100; index++) {
      const bytes = randomBytes(FILE_BYTES);
      try {
        writeFileSync(join(mount, `file-${index}`), bytes, { flush: true });
        kept.set(`file-${index}`, createHash('sha256').update(bytes).digest('hex'));
      } catch (failure) {
        error = failure as NodeJS.ErrnoException;
      }
    }
    expect(error?.code).toBe('ENOSPC');
    expect(kept.size).toBeGreaterThan(2);
    const check = () => {
      for (const [name, digest] of kept) {
        const found = createHash('sha256')
          .update(readFileSync(join(mount, name)))
          .digest('hex');
        expect([name, found]).toEqual([name, digest]);
      }
    };
    check();
    const names = [...kept.keys()];
    for (const name of names.slice(0, Math.ceil(names.length / 2))) {
      rmSync(join(mount, name));
      kept.delete(name);
    }
    const before = statfsSync(mount);
    const report = JSON.parse(await mustTatami(['gc', '--json', '--data', data])) as { reclaimedBytes: number };
    expect(report.reclaimedBytes).toBeGreaterThan(0);
    // The three nodes share this disk and look at it once a second.
    await waitUntil('df shows the space', () => {
      const after = statfsSync(mount);
      return after.bavail * after.bsize > before.bavail * before.bsize;
    });
    const again = randomBytes(FILE_BYTES);
    writeFileSync(join(mount, 'again'), again, { flush: true });
    kept.set('again', createHash('sha256').update(again).digest('hex'));
    check();
  });
});
