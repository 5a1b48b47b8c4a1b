/**
 * `tatami bench peers` with tatamifs alone, which needs no other filesystem's packages: its report is written, and its namespaces,
 * processes, mounts and folder are gone when it ends, in order or not.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TATAMI, mountsBelow, must, processesWith, tatami, waitUntil } from './support.ts';

let directory = '';

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tatami-peers-test-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const ARGS = ['bench', 'peers', '--systems', 'tatamifs', '--size-mib', '16', '--files', '20', '--results', '.'];

async function expectNothingLeft(files: readonly string[]): Promise<void> {
  expect((await readdir(directory)).sort()).toEqual(files);
  expect(mountsBelow(directory)).toEqual([]);
  expect(await processesWith(directory)).toEqual([]);
  // Every process of such a namespace sees the addresses; the machine itself does not.
  expect(await must('ip', ['addr'])).not.toContain('10.78.0.1/32');
}

it('measures, writes its report and leaves nothing else', async () => {
  const ran = await tatami([...ARGS, '--rounds', '1'], { cwd: directory, timeoutMs: 240_000 });
  expect([ran.code, ran.stderr]).toEqual([0, expect.stringContaining('round 1 of 1: tatamifs')]);
  expect(ran.stdout).toMatch(/cold 4-way read +MB\/s +\d/);
  const files = (await readdir(directory)).sort();
  expect(files).toEqual([expect.stringMatching(/-peers\.md$/), expect.stringMatching(/-peers\.svg$/)]);
  const [report = ''] = files;
  expect(await readFile(join(directory, report), 'utf8')).toContain('| cold open+read+close 4 KiB | /s |');
  await expectNothingLeft(files);
});

it.each([
  ['before the first round', (said: string) => /in .*tatami-peers-/.test(said)],
  ['while the empty filesystem is measured', () => mountsBelow(directory).some((mount) => mount.includes('/empty-'))],
])('ends with 130 and leaves nothing behind: Ctrl-C %s', async (_when, isThatFar) => {
  const child = spawn(process.execPath, [TATAMI, ...ARGS, '--rounds', '50'], {
    cwd: directory,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const ended = new Promise((resolve) => child.once('close', resolve));
  try {
    await waitUntil('it is that far', () => isThatFar(said), 240_000);
  } finally {
    process.kill(-(child.pid ?? 0), 'SIGINT');
  }
  expect([await ended, said]).toEqual([130, expect.not.stringMatching(/ERR_(?!CANCELLED)/)]);
  await expectNothingLeft([]);
});

it('leaves no process and no mount when it is killed', async () => {
  const child = spawn(process.execPath, [TATAMI, ...ARGS, '--rounds', '50'], { cwd: directory, stdio: 'ignore' });
  const ended = new Promise((resolve) => child.once('close', resolve));
  try {
    const processes = () => processesWith(join(directory, 'tatami-peers-'));
    await waitUntil('nodes run', async () => (await processes()).length > 1, 240_000);
  } finally {
    child.kill('SIGKILL');
  }
  await ended;
  await waitUntil('all are gone', async () => (await processesWith(directory)).length === 0);
  expect(mountsBelow(directory)).toEqual([]);
});
