/**
 * The one-machine cluster: made, started (whatever part of it does not run), asked and stopped.
 */
import { rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { levelUpmap } from '../catalog/placement-level.ts';
import { firstCatalog } from '../catalog/document.ts';
import type { CatalogNode } from '../catalog/types.ts';
import { newClusterKey } from '../cluster-key.ts';
import { CLUSTER_FILE } from '../cluster-location.ts';
import type { ClusterFile } from '../cluster-location.ts';
import { createNodeEnv } from '../env-node.ts';
import { wallMs } from '../env.ts';
import type { Env, Random } from '../env.ts';
import { FsError, UsageError } from '../errors.ts';
import type { HistoryId, NodeId } from '../ids.ts';
import { inspectMountPoint } from '../fuse/mount.ts';
import { runUnmount } from '../fuse/tools.ts';
import { GiB } from '../limits.ts';
import { NodeDirectory } from '../node-directory.ts';
import { readKeyFile, writeKeyFile } from './cluster-files.ts';
import type { ClusterFiles } from './cluster-files.ts';
import { note, progress } from './output.ts';
import { liveRecords, recordedMountPoints, stopProcesses } from './process-record.ts';
import type { ProcessRecord } from './process-record.ts';
import { spawnBackground } from './spawn.ts';
import type { Spawned } from './spawn.ts';
import { thisUser } from './this-user.ts';
import { newDirectory } from './new-directory.ts';
import { forgetMount, lostFilesError, registeredMount, silentEndError, takeMountEnding } from './mount-registry.ts';

/** A node replays its log and scans its newest pack before it is ready; on a slow disk that takes a while. */
const NODE_READY_TIMEOUT_MS = 60_000;
const MOUNT_READY_TIMEOUT_MS = 40_000;
/** After this a node or mount that was asked to stop is ended by force (Ctrl-C promises 5 s in all). */
const MOUNT_STOP_MS = 2_500;
const NODE_STOP_MS = 2_000;
/** After this `tatami up` says what it waits for. */
const SLOW_START_MS = 5_000;
const FIRST_PORT = 7401;
/** Held while a cluster is made. */
const LOCK_FILE = 'lock';

export interface NewCluster {
  readonly nodeCount: number;
  readonly copies: number | undefined;
  /** Test clusters on tiny disks keep less back. */
  readonly nodeDirectories?: readonly string[];
}

/** Makes the files of a new cluster; nothing runs yet. */
export async function createLocalCluster(files: ClusterFiles, wish: NewCluster): Promise<ClusterFile> {
  const env = createNodeEnv();
  await newDirectory(files.path);
  const lock = await env.disk.lock(join(files.path, LOCK_FILE)).catch((error: unknown) => {
    if ((error as { code?: string }).code !== 'EBUSY') throw error;
    throw new UsageError(`another \`tatami up\` is making a cluster in ${files.path}`, {
      cause: error,
      remedy: 'Wait until it is there, then run this again.',
    });
  });
  try {
    return await createFiles(env, files, wish);
  } finally {
    await lock.release();
  }
}

async function createFiles(env: Env, files: ClusterFiles, wish: NewCluster): Promise<ClusterFile> {
  const names = (await env.disk.readdir(files.path)).filter((name) => name !== 'lost+found' && name !== LOCK_FILE);
  if (names.includes(CLUSTER_FILE)) {
    throw new UsageError(`another \`tatami up\` has just made a cluster in ${files.path}`, {
      remedy: 'Run this again.',
    });
  }
  if (names.length > 0) {
    throw new UsageError(`${files.path} is not empty and holds no cluster`, {
      remedy: 'Choose an empty or new directory with --data.',
    });
  }
  const key = newClusterKey(env.random);
  const host = ownLoopbackHost(env.random);
  const ports = await freePorts(host, wish.nodeCount);
  // As a node that joins describes itself: by what is there for it.
  const { totalBytes } = await env.disk.space(files.path);
  const weight = Math.max(1, Math.round(totalBytes / GiB));
  const nodes = ports.map((port, index): CatalogNode => ({
    id: `n${index + 1}` as NodeId,
    storeId: Buffer.from(env.random.bytes(8)).toString('hex'),
    address: `${host}:${port}`,
    weight,
    host: `${hostname()}-n${index + 1}`,
    rack: 'rack',
    zone: 'zone',
  }));
  const unlevelled = firstCatalog({
    clusterId: key.clusterId,
    historyId: Buffer.from(env.random.bytes(8)).toString('hex') as HistoryId,
    atMs: wallMs(env.clock),
    nodes,
    rootOwner: thisUser(),
    ...(wish.copies === undefined ? {} : { copies: wish.copies }),
  });
  // Nothing is stored yet, so levelling the copies over the nodes moves nothing.
  const pools = unlevelled.pools.map((pool) => ({ ...pool, upmap: levelUpmap(unlevelled, pool) }));
  const catalog = { ...unlevelled, pools };
  const file: ClusterFile = {
    formatVersion: 1,
    clusterId: key.clusterId,
    nodes: nodes.map(({ id, address }) => ({ id, address })),
  };
  try {
    for (const node of nodes) {
      const directory = new NodeDirectory(env.disk, files.nodePath(node.id));
      await directory.create({ clusterId: key.clusterId, nodeId: node.id, storeId: node.storeId }, catalog);
    }
    await writeKeyFile(files.keyPath, key);
    // Written last: a directory without it holds no cluster.
    await files.save(file);
  } catch (error) {
    // It was empty, and the next attempt wants it so.
    for (const made of [join(files.path, CLUSTER_FILE), files.keyPath, files.nodesPath]) {
      await rm(made, { recursive: true, force: true });
    }
    throw error;
  }
  return file;
}

/**
 * One of the four million addresses in 127.64.0.0/10, all of which are this machine's own on Linux. Several clusters on
 * a machine then never want the same port: not when they start at once, nor when one is down while another is made.
 */
function ownLoopbackHost(random: Random): string {
  return `127.${64 + random.below(64)}.${random.below(256)}.${1 + random.below(254)}`;
}

/** Ports that are free there now, from 7401 on: somebody may listen on all addresses. */
async function freePorts(host: string, wanted: number): Promise<number[]> {
  const ports: number[] = [];
  for (let port = FIRST_PORT; ports.length < wanted && port < FIRST_PORT + 2_000; port++) {
    if (await isFree(host, port)) ports.push(port);
  }
  if (ports.length < wanted) throw new UsageError(`no ${wanted} free ports from ${FIRST_PORT} on`);
  return ports;
}

function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((settle) => {
    const server = createServer();
    server.once('error', () => settle(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => settle(true)));
  });
}

export interface Started {
  readonly started: readonly string[];
  readonly alreadyRunning: readonly string[];
}

/** Starts the nodes that do not run. If one fails, those started by this call are stopped again. */
export async function startNodes(files: ClusterFiles, file: ClusterFile): Promise<Started> {
  await readKeyFile(files.keyPath);
  const running = new Set((await liveRecords(files.runPath)).filter((r) => r.role === 'node').map((r) => r.name));
  const missing = file.nodes.filter((node) => !running.has(node.id));
  const bar = progress('starting nodes', missing.length);
  if (process.stderr.isTTY && missing.length > 0) bar.update(0);
  const waiting = new Set(missing.map((node) => node.id));
  const slow = setTimeout(() => {
    if (!process.stderr.isTTY) note(`still waiting for ${[...waiting].join(', ')}: they read their logs`);
  }, SLOW_START_MS);
  const ours = new Set<number>();
  const results = await Promise.allSettled(
    missing.map(async (node) => {
      ours.add((await startNode(files, node)).pid);
      waiting.delete(node.id);
      if (process.stderr.isTTY) bar.update(missing.length - waiting.size);
    }),
  );
  clearTimeout(slow);
  bar.end();
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) {
    // One of that name may be another's, who was quicker.
    const records = (await liveRecords(files.runPath)).filter(({ pid }) => ours.has(pid));
    await stopProcesses(records, NODE_STOP_MS);
    throw failed.reason;
  }
  return { started: missing.map((node) => node.id), alreadyRunning: [...running] };
}

function startNode(files: ClusterFiles, node: { id: string; address: string }): Promise<Spawned> {
  const record = join(files.runPath, `${node.id}.json`);
  return spawnBackground({
    args: [
      ...['node', '--data', files.nodePath(node.id), '--listen', node.address],
      ...['--key-file', files.keyPath, '--record', record],
    ],
    logFile: join(files.logPath, `${node.id}.log`),
    name: `node ${node.id}`,
    timeoutMs: NODE_READY_TIMEOUT_MS,
    threadCount: 8,
  });
}

/** Mounts the cluster unless it is mounted there by us. True if this call mounted it. */
export async function startMount(files: ClusterFiles, mountPoint: string, extra: readonly string[]): Promise<boolean> {
  const path = resolve(mountPoint);
  if ((await liveRecords(files.runPath)).some((record) => record.mountPoint === path)) return false;
  // A stale mount answers ENOTCONN to everything; the mount process clears it.
  if ((await inspectMountPoint(path)).state === 'missing') await newDirectory(path);
  await spawnBackground({
    args: ['mount', path, '--data', files.path, '--foreground', ...extra],
    logFile: join(files.logPath, 'mount.log'),
    name: 'mount',
    timeoutMs: MOUNT_READY_TIMEOUT_MS,
    threadCount: 12,
  });
  return true;
}

/** Unmounts and stops everything of this cluster that runs; returns what was stopped. */
export async function stopLocalCluster(files: ClusterFiles): Promise<ProcessRecord[]> {
  const mountPoints = new Set(await recordedMountPoints(files.runPath));
  const { mountPoint } = (await files.load()) ?? {};
  if (mountPoint !== undefined) mountPoints.add(mountPoint);
  const records = (await liveRecords(files.runPath)).filter((record) => record.pid !== process.pid);
  const mounts = records.filter((record) => record.role === 'mount');
  const nodes = records.filter((record) => record.role === 'node');
  await stopProcesses(mounts, MOUNT_STOP_MS, ({ name }) =>
    note(`${name} still writes what its programs left; it is given up after a while`),
  );
  const lost = await lostFiles(mounts);
  await stopProcesses(nodes, NODE_STOP_MS);
  await liveRecords(files.runPath);
  for (const path of mountPoints) await clearStaleMount(path);
  if (lost !== undefined) throw lost;
  return [...mounts, ...nodes];
}

/** What the mounts that have ended say of data that they could not write, and that one did not come to say it. */
async function lostFiles(mounts: readonly ProcessRecord[]): Promise<Error | undefined> {
  const errors: FsError[] = [];
  for (const { name, realMountPoint = name, pid, logFile } of mounts) {
    const ending = await takeMountEnding(realMountPoint, pid);
    // One that ends in order takes its record away.
    const left = await registeredMount(realMountPoint);
    if (ending !== undefined && ending.lost.length > 0) errors.push(lostFilesError(name, ending.lost, logFile));
    if (ending === undefined && left?.pid === pid) errors.push(silentEndError(name, left.logFile));
    await forgetMount(realMountPoint);
  }
  const [first, ...others] = errors;
  if (first === undefined || others.length === 0) return first;
  const remedies = new Set(errors.map(({ remedy }) => remedy));
  return new FsError('EIO', errors.map(({ message }) => message).join('\n'), { remedy: [...remedies].join('\n  ') });
}

/** What a mount process that was killed leaves: a directory that answers ENOTCONN to everyone. */
async function clearStaleMount(path: string): Promise<void> {
  const place = await inspectMountPoint(path);
  if (place.state === 'stale' && place.ours) await runUnmount(place.path, 'lazy');
}
