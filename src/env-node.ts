/**
 * The real world behind src/env.ts: the process's clock, the system's randomness, node:fs, LevelDB, sockets.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import type { CancelSignal } from './cancel.ts';
import { labelOf } from './client-label.ts';
import type { Clock, Env, Random, Timer, Transport } from './env.ts';
import { NodeDisk } from './env-node/disk.ts';
import { CancelledError, StateError } from './errors.ts';
import { createNodeTransport } from './net/transport-node.ts';

export interface NodeEnvOptions {
  /** Default: TCP and UDP of this machine. */
  readonly transport?: Transport;
}

/** The env that everything runs in outside of tests. One a process is enough; more do not disturb each other. */
export function createNodeEnv(options: NodeEnvOptions = {}): Env {
  return {
    clock: new NodeClock(),
    random: nodeRandom,
    disk: new NodeDisk(),
    transport: options.transport ?? createNodeTransport(),
    bootId: readBootId(),
    isOwnHost,
    hold: holdProcess,
  };
}

/** Linux makes one at each start of the machine. Without it every process counts as a new start: slower, never wrong. */
function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return randomBytes(16).toString('hex');
  }
}

/** Addresses of interfaces change seldom. */
const ADDRESSES_KEPT_MS = 30_000;
let ownAddresses: { readonly at: number; readonly hosts: ReadonlySet<string> } | undefined;

/** See Env.isOwnHost. */
function isOwnHost(host: string): boolean {
  if (host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)) return true;
  const now = performance.now();
  if (ownAddresses === undefined || now - ownAddresses.at > ADDRESSES_KEPT_MS) {
    const interfaces = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
    ownAddresses = { at: now, hosts: new Set(interfaces.map(({ address }) => address)) };
  }
  return ownAddresses.hosts.has(host);
}

/** What `tatami status` shows of this process. */
export function processLabel(name: string): string {
  return labelOf(name, hostname(), process.pid);
}

/** See Env.hold. */
export function holdProcess(): () => void {
  const handle = setInterval(() => undefined, LONGEST_TIMEOUT_MS);
  return () => clearInterval(handle);
}

/** Longest delay that setTimeout takes; beyond it, it fires at once. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;
const NS_PER_MS = 1_000_000n;

export class NodeClock implements Clock {
  /** Invariant: #wallNs was the wall time when process.hrtime was #hrNs. */
  #hrNs = process.hrtime.bigint();
  #wallNs = BigInt(Date.now()) * NS_PER_MS;

  monotonicMs(): number {
    return performance.now();
  }

  /**
   * Date.now has milliseconds only, and two files made in a row should not look equally old. So the time is taken from
   * hrtime, but kept within the millisecond that Date.now tells: a change of the system's clock is followed at once.
   */
  wallNs(): bigint {
    const hrNs = process.hrtime.bigint();
    const floorNs = BigInt(Date.now()) * NS_PER_MS;
    const estimateNs = this.#wallNs + (hrNs - this.#hrNs);
    if (estimateNs >= floorNs && estimateNs < floorNs + NS_PER_MS) return estimateNs;
    this.#hrNs = hrNs;
    this.#wallNs = estimateNs < floorNs ? floorNs : floorNs + NS_PER_MS - 1n;
    return this.#wallNs;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    if (Number.isNaN(delayMs)) throw new StateError('a timer needs a delay in milliseconds, not NaN');
    const dueMs = performance.now() + delayMs;
    let handle: NodeJS.Timeout;
    const arm = (): void => {
      const leftMs = Math.ceil(dueMs - performance.now());
      handle = setTimeout(fire, Math.min(Math.max(leftMs, 0), LONGEST_TIMEOUT_MS));
      handle.unref();
    };
    // Node counts in whole milliseconds of its loop's time and may be a little early; "at least" is promised here.
    const fire = (): void => {
      if (performance.now() < dueMs) arm();
      else callback();
    };
    arm();
    return { cancel: () => clearTimeout(handle) };
  }

  sleep(delayMs: number, signal?: CancelSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(new CancelledError());
        return;
      }
      const cancelled = (): void => {
        timer.cancel();
        reject(new CancelledError());
      };
      const timer = this.setTimer(delayMs, () => {
        signal?.removeEventListener('abort', cancelled);
        resolve();
      });
      signal?.addEventListener('abort', cancelled, { once: true });
    });
  }
}

/** Runs the callback once the event loop has been round: what waits for timers and sockets gets its turn in between. */
export function atNextTurn(callback: () => void): void {
  setImmediate(callback);
}

export const nodeRandom: Random = {
  bytes: (length) => new Uint8Array(randomBytes(length)),
  below: (bound) => randomInt(bound),
};
