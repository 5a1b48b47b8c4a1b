/**
 * Clusters of real processes for the end-to-end tests: made in a folder of their own, asked through the command line
 * as a user would, and taken down whatever happens.
 */
import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const TATAMI = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url));

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; never throws for its exit code. Fails loudly if it takes longer than `timeoutMs`. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const { timeoutMs = 120_000, cwd, env, uid, gid } = options;
    const child = execFile(
      program,
      [...args],
      {
        cwd,
        env: { ...process.env, NO_COLOR: '1', ...env },
        timeout: timeoutMs,
        killSignal: 'SIGKILL',
        maxBuffer: 64 << 20,
        ...(uid === undefined ? {} : { uid }),
        ...(gid === undefined ? {} : { gid }),
      },
      (error, stdout, stderr) => {
        if (error?.killed === true) {
          reject(new Error(`${program} ${args.join(' ')} did not end within ${timeoutMs} ms\n${stdout}\n${stderr}`));
        } else {
          resolve({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : 255, stdout, stderr });
        }
      },
    );
    // A program that ends without reading its input is no error.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input ?? '');
  });
}

export interface RunOptions {
  readonly timeoutMs?: number;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly uid?: number;
  readonly gid?: number;
}

/** As run, but an exit code other than 0 is an error that shows everything the program said. */
export async function must(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const ran = await run(program, args, options);
  if (ran.code !== 0) {
    throw new Error(`${program} ${args.join(' ')} ended with ${ran.code}\n${ran.stdout}\n${ran.stderr}`);
  }
  return ran.stdout;
}

export async function shell(script: string, options: RunOptions = {}): Promise<string> {
  return must('bash', ['-euo', 'pipefail', '-c', script], options);
}

/** The command under test. */
export function tatami(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return run(process.execPath, [TATAMI, ...args], options);
}

export async function mustTatami(args: readonly string[], options: RunOptions = {}): Promise<string> {
  return must(process.execPath, [TATAMI, ...args], options);
}

/** The shape of `tatami status --json` that the tests look at. */
export interface StatusJson {
  readonly health: 'healthy' | 'degraded' | 'unavailable';
  readonly findings: readonly { readonly severity: string; readonly text: string; readonly remedy: string }[];
  readonly voters: readonly { readonly id: string; readonly state: 'up' | 'down' | 'lost' }[];
  readonly nodes: readonly {
    readonly id: string;
    readonly kind: 'data' | 'witness';
    readonly address: string;
    readonly pid: number | null;
    readonly state: 'up' | 'down';
    readonly out: boolean;
    readonly reason: string | null;
    readonly usedBytes: number | null;
    readonly capacityBytes: number | null;
    readonly freeBytes: number | null;
    readonly blockCount: number | null;
    readonly handoffCount: number | null;
    readonly residentBytes: number | null;
    readonly longestPauseMs: number | null;
    readonly readBytes: number | null;
    readonly damage: readonly { readonly id: string; readonly healed: boolean }[];
  }[];
  readonly groups: readonly {
    readonly name: string;
    readonly epoch: number;
    readonly primary: string;
    readonly secondary: string | null;
    readonly learners: readonly string[];
    readonly seq: number | null;
    readonly serving: boolean;
    readonly primarySince: string | null;
  }[];
  readonly ifFails: readonly {
    readonly nodes: readonly string[];
    readonly impact: 'none' | 'pause' | 'outage';
    readonly effects: readonly string[];
    readonly remedy: string | null;
  }[];
  readonly mounts: readonly {
    readonly kind: 'mount' | 'program';
    readonly label: string;
    readonly mountPoint?: string;
    readonly host: string | null;
    readonly pid: number | null;
    readonly address: string;
  }[];
}

export interface ClusterOptions {
  readonly nodes?: number;
  readonly copies?: number;
  /** Further arguments of `tatami up`. */
  readonly args?: readonly string[];
}

export class TestCluster {
  readonly directory: string;
  readonly data: string;
  readonly mount: string;
  readonly #first: readonly string[];

  private constructor(directory: string, options: ClusterOptions) {
    this.directory = directory;
    this.data = join(directory, 'data');
    this.mount = join(directory, 'mnt');
    this.#first = [
      ...(options.nodes === undefined ? [] : ['--nodes', String(options.nodes)]),
      ...(options.copies === undefined ? [] : ['--copies', String(options.copies)]),
      ...(options.args ?? []),
    ];
  }

  /** Makes and starts a cluster, mounted. */
  static async start(options: ClusterOptions = {}): Promise<TestCluster> {
    const cluster = new TestCluster(await mkdtemp(join(tmpdir(), 'tatami-e2e-')), options);
    try {
      await cluster.up(cluster.#first);
    } catch (error) {
      await cluster.destroy();
      throw error;
    }
    return cluster;
  }

  async up(args: readonly string[] = []): Promise<string> {
    return mustTatami(['up', '--data', this.data, '--mount', this.mount, '--detach', ...args]);
  }

  async down(): Promise<string> {
    return mustTatami(['down', '--data', this.data]);
  }

  /** A cold start: nothing of the old processes or of the page cache is left. */
  async restartCold(): Promise<void> {
    await this.down();
    await shell('sync; echo 3 > /proc/sys/vm/drop_caches');
    await this.up();
  }

  async status(): Promise<StatusJson> {
    const ran = await tatami(['status', '--json', '--data', this.data]);
    if (ran.code !== 0 && ran.code !== 4) throw new Error(`tatami status ended with ${ran.code}\n${ran.stderr}`);
    return JSON.parse(ran.stdout) as StatusJson;
  }

  /** Waits until the status satisfies the condition, or fails with the last one seen. */
  async waitFor(what: string, holds: (status: StatusJson) => boolean, timeoutMs = 30_000): Promise<StatusJson> {
    let status = await this.status();
    const here = async () => holds((status = await this.status()));
    await waitUntil(what, here, timeoutMs).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${JSON.stringify(status, undefined, 1)}`);
    });
    return status;
  }

  /** Process ids by node id, and of the mount under `mount`. */
  async pids(): Promise<Map<string, number>> {
    const found = new Map<string, number>();
    const run = join(this.data, 'run');
    for (const name of (await readdir(run)).filter((file) => file.endsWith('.json'))) {
      const record = JSON.parse(await readFile(join(run, name), 'utf8')) as { role: string; name: string; pid: number };
      const isOwn = record.role === 'mount' && record.name === this.mount;
      found.set(isOwn ? 'mount' : record.name, record.pid);
    }
    return found;
  }

  async kill(id: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const pid = (await this.pids()).get(id);
    if (pid === undefined) throw new Error(`no process of ${id}`);
    process.kill(pid, signal);
    if (signal === 'SIGKILL') await waitUntil(`${id} is gone`, () => !isRunning(pid));
  }

  /** What the processes have logged, for the message of a failing test. */
  async logs(): Promise<string> {
    const names = await readdir(join(this.data, 'log')).catch(() => []);
    const parts = await Promise.all(
      names.map(async (name) => `== ${name}\n${(await readFile(join(this.data, 'log', name), 'utf8')).slice(-4_000)}`),
    );
    return parts.join('\n');
  }

  /** Ends everything by force where it must, and removes the folder. */
  async destroy(): Promise<void> {
    const pids = await this.pids().catch(() => new Map<string, number>());
    await run(process.execPath, [TATAMI, 'down', '--data', this.data], { timeoutMs: 30_000 }).catch(() => undefined);
    for (const pid of pids.values()) if (isRunning(pid)) process.kill(pid, 'SIGKILL');
    if (mountsBelow(this.directory).length > 0) await run('umount', ['-l', this.mount]);
    await rm(this.directory, { recursive: true, force: true });
  }
}

export function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat[stat.lastIndexOf(')') + 2] !== 'Z';
  } catch {
    return false;
  }
}

export async function waitUntil(
  what: string,
  holds: () => boolean | Promise<boolean>,
  timeoutMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const began = performance.now();
    if (await holds()) return;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    // Looking costs a process in many cases, which would take a core from what is waited for.
    await sleep(Math.max(50, performance.now() - began));
  }
}

export function mountsBelow(path: string): string[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((point) => point === path || point.startsWith(`${path}/`));
}

/** Processes of this program that have `text` in their command line. */
export async function processesWith(text: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found: number[] = [];
  for (const pid of pids) {
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (line.includes(TATAMI) && line.includes(text)) found.push(Number(pid));
  }
  return found;
}

/** Starts the command without waiting for it. */
export function startTatami(
  args: readonly string[],
  options: { readonly uid?: number; readonly gid?: number; readonly cwd?: string } = {},
) {
  const child = spawn(process.execPath, [TATAMI, ...args], { ...options, env: { ...process.env, NO_COLOR: '1' } });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (output.stdout += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (output.stderr += chunk));
  const ended = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  /** Waits until its standard output has the text. */
  const says = (text: string, timeoutMs?: number): Promise<void> => {
    const holds = () => {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}\n${output.stderr}`);
      return output.stdout.includes(text);
    };
    return waitUntil(`${args.join(' ')} says "${text}"`, holds, timeoutMs);
  };
  return { child, output, ended, says };
}

export async function sha256(path: string): Promise<string> {
  return (await must('sha256sum', [path], { timeoutMs: 300_000 })).split(' ')[0] ?? '';
}
