import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { liveRecords, removeRecord, writeRecord } from './process-record.ts';

it('a process removes its own record, and not that of one that came after it', async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'tatami-record-'));
  const path = join(scratch, 'run', 'mount-1.json');
  try {
    await removeRecord(path);
    await writeRecord(path, { role: 'mount', name: '/mnt', pid: process.ppid });
    await removeRecord(path);
    expect(await liveRecords(join(scratch, 'run'))).toMatchObject([{ name: '/mnt', pid: process.ppid }]);
    await writeRecord(path, { role: 'mount', name: '/mnt', pid: process.pid });
    await removeRecord(path);
    expect(existsSync(path)).toBe(false);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
});
