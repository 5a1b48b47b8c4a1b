// @ts-check
/** What scripts/chaos.js and scripts/calm.js share: a cluster of real processes in a folder of its own, and programs that use it. */
import { execFileSync, fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const TATAMI = join(root, 'dist', 'src', 'cli', 'main.js');
const WRITER = join(root, 'scripts', 'chaos-writer.js');
/** Longest that the cluster may take to be in order again. */
const LIMIT_MS = 60_000;

/**
 * @typedef {{ role: string, epoch: number, longestPauseMs?: number }} MemberReport
 * @typedef {{ primary: string, secondary: string | null, learners: string[], serving: boolean, epoch: number }} Group
 * @typedef {{ id: string, pid: number | null, state: string, longestPauseMs: number | null }} Node
 * @typedef {{ nodes: Node[], groups: Group[] }} Status
 * @typedef {{ name: string, digest: string, startedMs: number, endedMs: number }} Acked
 */

/** @param {number} ms */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {string} what @param {() => boolean} holds */
export async function until(what, holds) {
  const limit = Date.now() + LIMIT_MS;
  while (!holds()) {
    if (Date.now() > limit) throw new Error(`not within ${LIMIT_MS} ms: ${what}`);
    await sleep(100);
  }
}

/** @param {readonly number[]} sorted @param {number} share */
export const quantile = (sorted, share) =>
  sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? NaN;

export class ClusterUnderTest {
  #folder = mkdtempSync(join(tmpdir(), 'tatami-chaos-'));
  data = join(this.#folder, 'data');
  mount = join(this.#folder, 'mnt');
  #gone = false;

  constructor() {
    // Its processes are in sessions of their own: nobody else would end them.
    for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
      process.once(signal, () => {
        try {
          this.destroy();
        } catch (error) {
          console.error(String(error));
        }
        process.exit(130);
      });
    }
  }

  /** @param {string[]} args */
  tatami(...args) {
    try {
      return execFileSync(process.execPath, [TATAMI, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    } catch (error) {
      // 4: done, but not well; the status is on standard output all the same.
      const failed = /** @type {{ status?: number, stdout?: string }} */ (error);
      if (failed.status === 4) return failed.stdout ?? '';
      throw error;
    }
  }

  /** Starts what does not run. @param {string[]} args */
  up(...args) {
    this.tatami('up', '--data', this.data, '--mount', this.mount, '--detach', ...args);
  }

  /** @returns {Status} */
  status() {
    /** @type {unknown} */
    const parsed = JSON.parse(this.tatami('status', '--json', '--data', this.data));
    return /** @type {Status} */ (parsed);
  }

  /** @param {string} what */
  async inOrder(what) {
    await until(what, () => {
      const now = this.status();
      const [group] = now.groups;
      const allUp = now.nodes.every((node) => node.state === 'up');
      return group !== undefined && group.serving && group.secondary !== null && allUp;
    });
  }

  destroy() {
    if (this.#gone) return;
    this.#gone = true;
    this.tatami('down', '--data', this.data);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** @param {string} kind @param {string} where */
export function startWriter(kind, where) {
  const child = fork(WRITER, [kind, where]);
  /** @type {Acked[]} */
  const acked = [];
  /** @type {string[]} */
  const failures = [];
  let count = 0;
  child.on('message', (message) => {
    const told = /** @type {Acked & { failed?: string, count?: number }} */ (message);
    if (told.failed !== undefined) failures.push(told.failed);
    else if (told.count !== undefined) count = told.count;
    else acked.push(told);
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  return { kind, acked, failures, ended, count: () => count, stop: () => child.connected && child.send('stop') };
}
