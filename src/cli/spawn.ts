/**
 * Starts one of our own processes in the background and waits until it says that it is ready.
 *
 * The child is a session leader of its own, so Ctrl-C in the terminal reaches only the parent, which then stops the
 * children in order. Ready or failed comes back over Node's IPC channel, closed right after.
 */
import { spawn } from 'node:child_process';
import type { Writable } from 'node:stream';
import { open, readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { TatamiError, TimeoutError, UsageError } from '../errors.ts';
import { MiB } from '../limits.ts';
import { rotateLog } from './rotate-log.ts';
import { newDirectory } from './new-directory.ts';
import { MAIN } from './places.ts';

export type ChildMessage =
  | { readonly kind: 'ready'; readonly detail: string }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string; readonly remedy: string | undefined };

/** Tells the parent, if there is one that waits. */
export function tellParent(message: ChildMessage): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined || !process.connected) return resolve();
    process.send(message, () => {
      if (process.connected) process.disconnect();
      resolve();
    });
  });
}

/**
 * Settings of glibc's allocator: freed block buffers of 4 MiB stay with the process and are used again. Without them each
 * new one is a fresh mapping whose pages fault in one by one; cold reads and writes were a quarter slower (measured in
 * alternate runs, resident memory the same).
 */
const ALLOCATOR = { MALLOC_MMAP_THRESHOLD_: String(32 * MiB), MALLOC_TRIM_THRESHOLD_: String(128 * MiB) };

/**
 * Threads that V8 may use for its compiler and collector: half of the processors, instead of four whatever there is. Several nodes and a mount start on one
 * machine, and four compilers each would keep the processors from the code that runs: the first 1,200 files after a start on two processors were listed 1.33,
 * read 1.23, made 1.17 and removed 1.16 times as fast (means of five alternate runs).
 */
const V8_THREADS = `--v8-pool-size=${Math.max(1, Math.min(4, Math.floor(availableParallelism() / 2)))}`;

/**
 * MiB of each half of the memory for young objects, instead of 16: it is all gone through before any of it is used again, and memory used for the first time is
 * dear. Measured in docs/decisions/0018.
 */
const YOUNG_MEMORY = '--max-semi-space-size=8';

export interface SpawnOptions {
  readonly args: readonly string[];
  /** A file, or {@link SYSLOG}. */
  readonly logFile: string;
  /** What the messages call it. */
  readonly name: string;
  readonly timeoutMs: number;
  /** Threads for blocking reads: see the FUSE device. */
  readonly threadCount: number;
}

export interface Spawned {
  readonly pid: number;
  readonly detail: string;
}

/**
 * Set to anything, each line of a process's log begins with its priority as syslog numbers them (`<4>` is a warning), which
 * logger(1) and systemd's journal take off and keep.
 */
export const PRIORITIES_VARIABLE = 'TATAMI_LOG_PRIORITIES';

/** In place of a log file: the system's log, by logger(1). */
export const SYSLOG = 'syslog';

/** Where a process in the background writes what it has to say. */
interface LogTarget {
  /** For its standard output and error. */
  readonly stdio: number | Writable;
  readonly env: Readonly<Record<string, string>>;
  /** Where to look, in words. */
  readonly name: string;
  /** What it said last; nothing where that cannot be known. */
  tail(): Promise<string>;
  /** This process no longer has it. */
  release(): Promise<void>;
}

async function openLogFile(path: string): Promise<LogTarget> {
  await newDirectory(dirname(path));
  await rotateLog(path);
  const file = await open(path, 'a');
  return { stdio: file.fd, env: {}, name: path, tail: () => lastLines(path), release: () => file.close() };
}

/** Node cannot write to the datagram socket of syslog; logger(1), which every Debian has, does, and ends with whoever writes to it. */
async function openSyslog(name: string): Promise<LogTarget> {
  const logger = spawn('logger', ['--prio-prefix', '--tag', `tatami-${name}`, '--priority', 'daemon.info'], {
    detached: true,
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  await new Promise<void>((resolve, reject) => {
    logger.once('spawn', resolve);
    logger.once('error', (cause) =>
      reject(
        new UsageError(`the program logger, which writes to syslog, cannot be run: ${cause.message}`, {
          remedy: 'Install it (Debian: bsdutils), or name a file with log=FILE.',
          cause,
        }),
      ),
    );
  });
  logger.unref();
  return {
    stdio: logger.stdin,
    env: { [PRIORITIES_VARIABLE]: '1' },
    name: 'syslog',
    tail: () => Promise.resolve(''),
    // Not end(), which would end the stream for the process that writes to it, too.
    release: () => Promise.resolve(void logger.stdin.destroy()),
  };
}

/** Resolves once ready; rejects with the child's own error, after it has gone. */
export async function spawnBackground(options: SpawnOptions): Promise<Spawned> {
  const log = options.logFile === SYSLOG ? await openSyslog(options.name) : await openLogFile(options.logFile);
  try {
    // For developers: `TATAMI_NODE_ARGS="--cpu-prof --cpu-prof-dir=/tmp/prof" tatami up` profiles every process.
    const nodeArgs = (process.env['TATAMI_NODE_ARGS'] ?? '').split(' ').filter((arg) => arg !== '');
    const child = spawn(process.execPath, [V8_THREADS, YOUNG_MEMORY, ...nodeArgs, MAIN, ...options.args], {
      detached: true,
      stdio: ['ignore', log.stdio, log.stdio, 'ipc'],
      env: { ...process.env, ...ALLOCATOR, ...log.env, UV_THREADPOOL_SIZE: String(options.threadCount), NO_COLOR: '1' },
    });
    return await new Promise<Spawned>((resolve, reject) => {
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        finish(() =>
          reject(
            new TimeoutError(`${options.name} was not ready within ${options.timeoutMs / 1000} s`, {
              remedy: `Look into ${log.name}.`,
            }),
          ),
        );
      }, options.timeoutMs);
      const finish = (settle: () => void) => {
        clearTimeout(timer);
        child.removeAllListeners();
        if (child.connected) child.disconnect();
        child.unref();
        settle();
      };
      child.on('message', (message: ChildMessage) => {
        if (message.kind === 'ready') {
          finish(() => resolve({ pid: child.pid ?? 0, detail: message.detail }));
        } else {
          const remedy = message.remedy ?? `More in ${log.name}.`;
          child.once('exit', () =>
            finish(() => reject(new TatamiError(message.code, `${options.name}: ${message.message}`, { remedy }))),
          );
        }
      });
      child.on('error', (error) => finish(() => reject(error)));
      child.on('exit', (code, signal) => {
        void log.tail().then((tail) =>
          finish(() =>
            reject(
              new TatamiError(
                'ERR_START',
                `${options.name} ended at once (${signal ?? `exit code ${code}`})\n${tail}`,
                {
                  remedy: `More in ${log.name}.`,
                },
              ),
            ),
          ),
        );
      });
    });
  } finally {
    await log.release();
  }
}

async function lastLines(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.trimEnd().split('\n').slice(-5).join('\n');
}
