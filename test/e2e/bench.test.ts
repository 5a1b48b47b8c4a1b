/** `tatami bench` that is interrupted: its cluster, mount and folder are gone when it ends. */
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { TATAMI, mountsBelow, processesWith, waitUntil } from './support.ts';

it.each([
  ['while its cluster starts', /starting three nodes/],
  ['while it measures', /sequential|write/],
])('bench ends with 130 and leaves nothing behind: Ctrl-C %s', async (_, when) => {
  const directory = await mkdtemp(join(tmpdir(), 'tatami-bench-test-'));
  try {
    const args = [TATAMI, 'bench', 'write', '--size-mib', '64', '--rounds', '50'];
    // In a process group of its own, so that the signal reaches all of it, as from a terminal.
    const child = spawn(process.execPath, args, { cwd: directory, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    const ended = new Promise((resolve) => child.once('close', resolve));
    await waitUntil('it is that far', () => when.test(said), 60_000);
    process.kill(-(child.pid ?? 0), 'SIGINT');
    expect([await ended, said]).toEqual([130, expect.not.stringMatching(/ERR_(?!CANCELLED)/)]);
    expect(await readdir(directory)).toEqual([]);
    expect(mountsBelow(directory)).toEqual([]);
    expect(await processesWith(directory)).toEqual([]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
