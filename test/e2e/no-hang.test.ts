/** Every node stands still or is gone: nothing hangs, everything says why, and open files go on when the nodes do. */
import { spawn } from 'node:child_process';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestCluster, mustTatami, mountsBelow, run, tatami, waitUntil } from './support.ts';

/** Seconds. Short, as the test waits for it; a stopped node must not be taken for a slow one, so not too short. */
const DEADLINE = 4;
/** Longer than any test may take: what waits for it would be seen to hang. */
const NEVER = 1_800;

/** Opens a file, and then does what it is told by lines: `write N`, `sync`, `close`. Answers each with a line. */
const HOLDER = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
print('open', flush=True)
for line in sys.stdin:
    what = line.split()
    try:
        if what[0] == 'write': os.write(fd, what[1].encode() * 50000)
        if what[0] == 'sync': os.fsync(fd)
        if what[0] == 'close': os.close(fd)
        print('done', flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
`;

class Holder {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<unknown>;
  #said: string[] = [];

  private constructor(path: string) {
    this.child = spawn('python3', ['-c', HOLDER, path]);
    this.ended = once(this.child, 'exit');
    createInterface(this.child.stdout).on('line', (line) => this.#said.push(line));
  }

  static async open(path: string): Promise<Holder> {
    const holder = new Holder(path);
    await holder.#answer();
    return holder;
  }

  async #answer(): Promise<string> {
    await waitUntil('the program answers', () => this.#said.length > 0, 60_000);
    return this.#said.shift()!;
  }

  tell(line: string): Promise<string> {
    this.child.stdin.write(`${line}\n`);
    return this.#answer();
  }
}

describe('when every node stands still', () => {
  let cluster: TestCluster;
  let patient: string;
  const holders: Holder[] = [];
  beforeEach(async () => {
    cluster = await TestCluster.start({ args: ['--timeout', String(DEADLINE)] });
    patient = join(cluster.directory, 'patient');
    mkdirSync(patient);
    await mustTatami(['mount', patient, '--data', cluster.data, '--timeout', String(NEVER)]);
  });
  afterEach(async () => {
    for (const holder of holders.splice(0)) holder.child.kill('SIGKILL');
    await signalNodes('SIGCONT');
    await run('umount', ['-l', patient]);
    await cluster.destroy();
  });

  async function signalNodes(signal: NodeJS.Signals): Promise<void> {
    for (const [id, pid] of await cluster.pids()) if (/^n\d+$/.test(id)) process.kill(pid, signal);
  }

  async function hold(path: string): Promise<Holder> {
    const holder = await Holder.open(path);
    holders.push(holder);
    return holder;
  }

  it('operations end with errors, killed programs end, umount names what is lost; then open files go on', async () => {
    const { mount } = cluster;
    const short = await hold(join(mount, 'short'));
    const long = await hold(join(patient, 'long'));
    expect(await short.tell('write a')).toBe('done');
    expect(await short.tell('sync')).toBe('done');
    await signalNodes('SIGSTOP');

    const script = { timeoutMs: 120_000 };
    const asked = await Promise.all(
      [
        `ls -l ${mount}`,
        `stat ${mount}/other`,
        `df ${mount}`,
        `mkdir ${mount}/new`,
        `cat ${mount}/short > /dev/null`,
      ].map(async (command) => ({ command, ...(await run('bash', ['-c', command], script)) })),
    );
    for (const { command, code, stderr } of asked) {
      expect([command, code === 0, stderr]).toEqual([command, false, expect.stringContaining('Input/output error')]);
    }
    // The log of the mount says who did not answer, and what to do.
    const log = await readFile(join(cluster.data, 'log', 'mount.log'), 'utf8');
    expect(log).toMatch(/group g0 \(primary n\d\) did not answer in time.*operations failed/);

    // A write that failed is told once, at the next fsync.
    expect(await short.tell('write b')).toBe('done');
    expect(await short.tell('sync')).toBe('Input/output error');

    // Killed while it waits: it need not wait for the deadline of its mount.
    const waiting = spawn('mkdir', [join(patient, 'never')]);
    const killed = once(waiting, 'exit');
    await waitUntil('mkdir waits in the mount', () => stateOf(waiting.pid) === 'D' || stateOf(waiting.pid) === 'S');
    waiting.kill('SIGTERM');
    expect((await killed)[1]).toBe('SIGTERM');

    // Written, and nobody has been told that it could not be stored: umount tells.
    expect(await short.tell('write c')).toBe('done');
    const forced = await tatami(['umount', '--force', mount]);
    expect([forced.code, forced.stderr]).toEqual([1, expect.stringMatching(/1 file has lost[^]*\n {2}\/short\n/)]);
    expect(mountsBelow(mount)).toEqual([]);

    // Data that waits with patience is stored when the nodes go on.
    expect(await long.tell('write d')).toBe('done');
    const stored = long.tell('sync');
    await signalNodes('SIGCONT');
    expect(await stored).toBe('done');
    expect(readFileSync(join(patient, 'long'))).toEqual(Buffer.alloc(50_000, 'd'));
    const before = Buffer.alloc(50_000, 'a');
    expect(readFileSync(join(patient, 'short')).equals(before)).toBe(true);
    expect(await long.tell('close')).toBe('done');
    long.child.stdin.end();
    await long.ended;
    await mustTatami(['umount', patient]);
  });
});

/** As in ps: D waits in the kernel, and cannot be interrupted by all. */
function stateOf(pid: number | undefined): string {
  try {
    const stat = readFileSync(`/proc/${pid ?? 0}/stat`, 'utf8');
    const inMount = /fuse|request_wait/.test(readFileSync(`/proc/${pid ?? 0}/wchan`, 'utf8'));
    return inMount ? (stat[stat.lastIndexOf(')') + 2] ?? '') : '';
  } catch {
    return '';
  }
}
