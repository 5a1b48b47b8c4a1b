// @ts-check
/**
 * `npm run chaos -- --churn MINUTES`: files come, change and go on two mounts' worth of programs while garbage is collected every
 * ten seconds, packs are rewritten, and one node after the other is killed and started again. Every byte that is read must be right; at the end, after
 * quiet, every file must be whole from a cold start, nothing may be left to free, and the space used is told: exit code 1
 * if it is more than 1.1 times what is live.
 */
import { createHash } from 'node:crypto';
import { fork } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ClusterUnderTest, sleep, until } from './cluster-under-test.js';

const WORKER = join(dirname(fileURLToPath(import.meta.url)), 'churn-worker.js');
const WORKERS = 2;
const COLLECT_EVERY = '10s';
/** A node is killed this long after the last one is back. */
const KILL_INTERVAL_MS = 15_000;
/** It stays away this long, at the least and at the most: sometimes over a collection. */
const AWAY_MS = [500, 12_000];
/** For what is to be freed after the last change: a collection or two, a minute of quiet, the rewriting. */
const QUIET_LIMIT_MS = 10 * 60_000;
const GOAL = 1.1;

/**
 * @typedef {{ count?: number, files?: [string, string][], bytes?: number, failed?: string }} Told
 * @typedef {{ usedBytes: number | null, fileBytes?: number | null, pid: number | null, id: string }} Node
 */

/** @param {{ minutes: number, nodes: number, seed: number, json: boolean }} options */
export async function churn({ minutes, nodes, seed, json }) {
  const cluster = new ClusterUnderTest();
  /** @type {string[]} */
  const problems = [];
  let kills = 0;
  let operations = 0;
  let files = 0;
  let ratio = Number.NaN;
  let liveBytes = 0;
  try {
    cluster.up('--nodes', String(nodes));
    await cluster.inOrder('the cluster is in order');
    cluster.tatami('gc', '--every', COLLECT_EVERY, '--data', cluster.data);
    const workers = Array.from({ length: WORKERS }, (_, index) => startWorker(cluster.mount, index, seed + index));
    await until('all are at work', () => workers.every((worker) => worker.told.count > 20 || worker.told.failed));
    const endMs = Date.now() + minutes * 60_000;
    for (let round = seed; Date.now() < endMs; round++) {
      await sleep(Math.min(KILL_INTERVAL_MS, Math.max(0, endMs - Date.now())));
      if (workers.some((worker) => worker.told.failed !== undefined)) break;
      const victim = cluster.status().nodes[round % nodes];
      if (typeof victim?.pid !== 'number') throw new Error(`no process of node ${round % nodes}`);
      process.kill(victim.pid, 'SIGKILL');
      kills++;
      await sleep(/** @type {number} */ (AWAY_MS[round % AWAY_MS.length]));
      cluster.up();
      await cluster.inOrder(`the cluster is in order again after ${victim.id} was killed`);
      console.error(
        `kill ${kills}: ${victim.id}; ${workers.map((worker) => worker.told.count).join(' + ')} operations`,
      );
    }
    for (const worker of workers) worker.stop();
    await Promise.all(workers.map((worker) => worker.ended));
    for (const { told } of workers) {
      operations += told.count;
      if (told.failed !== undefined) problems.push(told.failed);
      else if (told.files === undefined) problems.push('a program ended without a word');
    }
    if (problems.length === 0) {
      ({ ratio, liveBytes } = await whenQuiet(cluster));
      if (!(ratio <= GOAL)) problems.push(`the space used is ${ratio.toFixed(3)} times what is live`);
      cluster.tatami('down', '--data', cluster.data);
      cluster.up();
      await cluster.inOrder('the cluster is in order after a cold start');
      for (const worker of workers) {
        for (const [name, digest] of worker.told.files ?? []) {
          files++;
          const found = createHash('sha256')
            .update(readFileSync(join(worker.directory, name)))
            .digest('hex');
          if (found !== digest) problems.push(`wrong bytes after a cold start: ${join(worker.directory, name)}`);
        }
        const names = readdirSync(worker.directory).length;
        if (names !== worker.told.files?.length) problems.push(`${names} names in ${worker.directory}`);
      }
      const checked = cluster.tatami('fsck', '--data', cluster.data);
      if (!/ checked, 0 findings/.test(checked)) problems.push(`fsck: ${checked}`);
    }
  } finally {
    cluster.destroy();
  }
  const result = { minutes, nodes, seed, kills, operations, files, liveBytes, ratio, problems };
  if (json) console.log(JSON.stringify(result, undefined, 1));
  else {
    console.log(
      `${minutes} minutes, ${operations} operations, ${kills} nodes killed, ${files} files compared: ${problems.length} problems`,
    );
    console.log(
      `after quiet: ${(liveBytes / 2 ** 20).toFixed(0)} MiB of live copies, ${ratio.toFixed(3)} times that on disk`,
    );
    for (const problem of problems) console.log(`  ${problem}`);
  }
  if (problems.length > 0) process.exitCode = 1;
}

/** @param {string} mount @param {number} index @param {number} seed */
function startWorker(mount, index, seed) {
  const directory = join(mount, `churn-${index}`);
  mkdirSync(directory);
  const child = fork(WORKER, [directory, String(seed)]);
  /** @type {{ count: number, files?: [string, string][], bytes?: number, failed?: string }} */
  const told = { count: 0 };
  child.on('message', (message) => void Object.assign(told, /** @type {Told} */ (message)));
  const ended = new Promise((resolve) => child.once('close', resolve));
  return { directory, told, ended, stop: () => child.connected && child.send('stop') };
}

/** Waits until nothing is left to be freed and the packs are tidy, or until it has had the time for it. @param {ClusterUnderTest} cluster */
async function whenQuiet(cluster) {
  const limitMs = Date.now() + QUIET_LIMIT_MS;
  for (;;) {
    await sleep(5_000);
    /** @type {unknown} */
    const parsed = JSON.parse(cluster.tatami('gc', '--dry-run', '--json', '--data', cluster.data));
    const left = /** @type {{ reclaimedCount: number, pendingCount: number }} */ (parsed);
    const nodes = /** @type {Node[]} */ (/** @type {unknown} */ (cluster.status().nodes));
    const liveBytes = nodes.reduce((sum, node) => sum + (node.usedBytes ?? 0), 0);
    const diskBytes = nodes.reduce((sum, node) => sum + packBytes(join(cluster.data, 'nodes', node.id, 'blocks')), 0);
    const ratio = diskBytes / liveBytes;
    const nothingLeft = left.reclaimedCount === 0 && left.pendingCount === 0;
    if ((nothingLeft && ratio <= GOAL) || Date.now() > limitMs) {
      return { ratio: nothingLeft ? ratio : Number.POSITIVE_INFINITY, liveBytes };
    }
  }
}

/** All files of a node's block store, the index too. @param {string} directory @returns {number} */
function packBytes(directory) {
  let bytes = 0;
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    try {
      bytes += entry.isDirectory() ? packBytes(path) : statSync(path).size;
    } catch (error) {
      if (/** @type {{ code?: string }} */ (error).code !== 'ENOENT') throw error;
    }
  }
  return bytes;
}
