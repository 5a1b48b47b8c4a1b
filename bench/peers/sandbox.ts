/**
 * Namespaces of network, mounts and processes for one run of one system: what is started in there cannot be reached from
 * outside, hides nothing outside, and is gone when the namespaces end, whatever state it is in.
 *
 * The first process of a process namespace takes all others with it; ours is a shell that waits for its standard input to
 * end, so that the end of this program, even by SIGKILL, is the end of all.
 */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { TatamiError, TimeoutError } from '../../src/errors.ts';
import { parseProcessStat } from './proc.ts';

/** Some systems refuse loopback's addresses: these are on the loopback device, one for each server. */
export const ADDRESSES = ['10.78.0.1', '10.78.0.2', '10.78.0.3'] as const;

const UNSHARE = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
const INIT = `ip link set lo up && ${ADDRESSES.map((address) => `ip addr add ${address}/32 dev lo`).join(' && ')} && echo ready && read -r`;
/** Right after the page cache was dropped, on a busy disk, even a shell takes its time. */
const READY_TIMEOUT_MS = 60_000;
const COMMAND_TIMEOUT_MS = 120_000;
/** What is asked to end gets so long; then the namespace takes it. */
const GRACE_MS = 15_000;

export class Sandbox {
  readonly #holder: ChildProcess;
  /** The namespace's first process, as this program's namespace counts. */
  readonly #initPid: number;

  private constructor(holder: ChildProcess, initPid: number) {
    this.#holder = holder;
    this.#initPid = initPid;
  }

  static async open(): Promise<Sandbox> {
    // In a session of its own: Ctrl-C is for the benchmark, which then stops what it has started, in order.
    const options: SpawnOptions = { stdio: ['pipe', 'pipe', 'inherit'], detached: true };
    const holder = spawn('unshare', [...UNSHARE, 'bash', '-c', INIT], options);
    try {
      const ready = once(holder.stdout ?? holder, 'data', { signal: AbortSignal.timeout(READY_TIMEOUT_MS) });
      const gone = once(holder, 'exit').then(([code]) => {
        throw new TatamiError('ERR_BENCH', `no namespaces could be made (unshare ended with ${String(code)})`, {
          remedy: 'Run as root, on the machine itself rather than in a container.',
        });
      });
      await Promise.race([ready, gone]);
      gone.catch(() => undefined);
      const [init] = processesWhere((_, parent) => parent === holder.pid);
      if (init === undefined) throw new TatamiError('ERR_BENCH', 'the first process of the namespace is not there');
      return new Sandbox(holder, init);
    } catch (error) {
      holder.kill('SIGKILL');
      if (!(error instanceof Error) || error.name !== 'AbortError') throw error;
      throw new TimeoutError(`no namespaces within ${READY_TIMEOUT_MS / 1000} s`, { cause: error });
    }
  }

  /** What a command inside begins with. */
  #prefix(): string[] {
    return ['-t', String(this.#initPid), '--net', '--mount', '--pid', '--'];
  }

  /** Runs a program inside to its end; what it printed. Throws for an exit code other than 0. */
  run(program: string, ...args: readonly string[]): Promise<string> {
    const command = [...this.#prefix(), program, ...args];
    const options = { timeout: COMMAND_TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: 16 << 20 } as const;
    return new Promise((resolve, reject) => {
      execFile('nsenter', command, options, (error, stdout, stderr) => {
        if (error === null) return resolve(stdout);
        const said = `${stdout}\n${stderr}`.trim().split('\n').slice(-8).join('\n');
        reject(new TatamiError('ERR_BENCH', `${program} ${args.join(' ')} failed: ${said}`, { cause: error }));
      });
    });
  }

  /** Starts one of our own programs inside; messages go both ways. */
  fork(script: string, args: readonly string[]): ChildProcess {
    const command = [...this.#prefix(), process.execPath, script, ...args];
    return spawn('nsenter', command, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  }

  /** Ends by force what `fork` has started. */
  killForked(child: ChildProcess): void {
    const inside = processesWhere((_, parent) => parent === child.pid);
    for (const pid of inside) process.kill(pid, 'SIGKILL');
  }

  /** Laid over a directory of the machine, for the inside alone. */
  async cover(directory: string, by: string): Promise<void> {
    await this.run('mount', '--bind', by, directory);
  }

  /** All processes inside but the first. */
  pids(): number[] {
    const namespace = readlinkSync(`/proc/${this.#initPid}/ns/pid`);
    return processesWhere((pid) => pid !== this.#initPid && namespaceOf(pid) === namespace);
  }

  /** Asks all processes inside to end, and waits until they have, for a while. */
  async endProcesses(): Promise<void> {
    for (const pid of this.pids()) {
      try {
        process.kill(pid, 'SIGTERM');
      } catch {
        // It ended between the look and the signal.
      }
    }
    const deadline = performance.now() + GRACE_MS;
    while (this.pids().length > 0 && performance.now() < deadline) await sleep(50);
  }

  /** Everything inside is gone when it resolves. Idempotent. */
  async end(): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return;
    const gone = once(this.#holder, 'exit');
    this.#holder.stdin?.end();
    await gone;
  }
}

/** Zombies do not count. */
function processesWhere(holds: (pid: number, parent: number) => boolean): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => {
    try {
      const { state, parent } = parseProcessStat(readFileSync(`/proc/${pid}/stat`, 'utf8'));
      return state !== 'Z' && holds(pid, parent);
    } catch {
      return false;
    }
  });
}

function namespaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}

/** Asks again and again until it holds; an error of the question is a no. */
export async function until(what: string, holds: () => Promise<boolean>, timeoutMs = 60_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      if (await holds()) return;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) {
      throw new TimeoutError(`not within ${timeoutMs / 1000} s: ${what}`, { cause: last });
    }
    await sleep(100);
  }
}
