/**
 * A whole cluster inside the calling process, for tests of programs that use tatamifs: real protocol, real formats,
 * memory instead of disks and sockets, nothing left behind.
 *
 * ```ts
 * import { startCluster } from 'tatamifs/testing';
 * const cluster = await startCluster({ nodes: 3 });
 * const fs = await cluster.connect();
 * await fs.writeFile('/a', 'b');
 * await cluster.close(); // until then the process does not end
 * ```
 *
 * @packageDocumentation
 */
import { firstCatalog } from './catalog/document.ts';
import type { CatalogNode } from './catalog/types.ts';
import { connectCluster } from './client.ts';
import type { ClusterClient } from './client.ts';
import { newClusterKey } from './cluster-key.ts';
import { MemoryDisk, MemoryNetwork, createMemoryEnv } from './env-memory.ts';
import { mortalEnv } from './env-memory/mortal.ts';
import type { Life } from './env-memory/mortal.ts';
import { createNodeEnv, holdProcess } from './env-node.ts';
import { wallMs } from './env.ts';
import type { Env } from './env.ts';
import { StateError } from './errors.ts';
import type { HistoryId, NodeId } from './ids.ts';
import { SILENT_LOGGER } from './log.ts';
import type { Logger } from './log.ts';
import type { GroupRules } from './meta/group/rules.ts';
import { joinCluster } from './node-core.ts';
import type { NodeDescription } from './node-core.ts';
import { NodeDirectory } from './node-directory.ts';
import { startNode } from './node.ts';
import type { RunningNode } from './node.ts';
import type { FileSystem } from './vfs/api.ts';

/** What kind of cluster {@link startCluster} makes. */
export interface StartClusterOptions {
  /** 1 to 64; default 3. */
  readonly nodes?: number;
  /** Copies of each block; default 3, or as many as nodes. */
  readonly copies?: number;
  /** Files are cut at multiples of this (a power of two from 64 KiB); default 4 MiB. */
  readonly blockSizeBytes?: number;
  /** 1: the metadata's primary goes on alone when the others are gone. Default 2 from three nodes on. */
  readonly minReplicas?: 1 | 2;
  /** A node that is down for so long has its blocks copied elsewhere; default ten minutes, null: never. */
  readonly repairAfterMs?: number | null;
  /** How often blocks that no file uses are freed; default an hour, null: never. */
  readonly collectEveryMs?: number | null;
  /**
   * Hosts for nodes (n1...) and clients (c1...); default: memory, in real time. The simulator gives its own.
   *
   * @internal
   */
  readonly world?: TestWorld;
  /** Where nodes and clients report. Default: nowhere. */
  readonly log?: Logger;
  /**
   * Clauses of the groups' rules to do without, for tests of tatamifs itself: do its checkers notice?
   *
   * @internal
   */
  readonly rules?: GroupRules;
}

/**
 * The hosts under a cluster.
 *
 * @internal
 */
export interface TestWorld {
  /** The world as the process on that host sees it; a killed host starts anew with what its disk has. */
  envOf(id: string): Env;
  /** Ends the process on that host at once, as `kill -9` does. */
  kill(id: string): void;
}

/** A cluster in this process: nodes `n1`, `n2`, ..., and the clients that were connected. */
export interface TestCluster {
  /** Names of its nodes, running or not. */
  readonly nodeIds: readonly string[];
  /**
   * A filesystem over a connection of its own, as another machine would have it; closed with the cluster at the latest.
   * Default user: root.
   */
  connect(user?: { readonly uid: number; readonly gid: number }): Promise<FileSystem>;
  /**
   * The layers below, for tests of tatamifs itself.
   *
   * @internal
   */
  client(): Promise<ClusterClient>;
  /** Stops a node in order; nothing to do if it does not run. */
  stopNode(id: string): Promise<void>;
  /**
   * Ends a node, or the process of a client (`c1` is the first that connected), at once, as `kill -9` does: nothing is
   * finished, nothing said to the others. Calls that a killed client had begun never settle.
   */
  kill(id: string): void;
  /** Starts it again, with what it had. StateError for a name that is not in `nodeIds`. */
  startNode(id: string): Promise<void>;
  /**
   * Names one more machine (`n4` after three); `startNode` makes it join the cluster, as `tatami node join` does, for tests
   * of tatamifs itself.
   *
   * @internal
   */
  addNode(): string;
  /**
   * The node if it runs, for tests of tatamifs itself.
   *
   * @internal
   */
  node(id: string): RunningNode | undefined;
  /** Closes all clients and nodes. Nothing of the cluster is left; the process can end. */
  close(): Promise<void>;
}

const DEFAULT_NODES = 3;

/**
 * Starts a cluster in memory and resolves when it serves: real nodes and clients, whose disks and network are objects.
 * Time is real: a node that was killed is missed after as many seconds as in a real cluster.
 *
 * @throws StateError for a number of nodes that cannot be; FormatError for other unusable options
 */
export async function startCluster(options: StartClusterOptions = {}): Promise<TestCluster> {
  // A cluster in memory has no sockets that would keep the process alive.
  const release = options.world === undefined ? holdProcess() : () => undefined;
  try {
    return await wireCluster(options, release);
  } catch (error) {
    release();
    throw error;
  }
}

async function wireCluster(options: StartClusterOptions, release: () => void): Promise<TestCluster> {
  const count = options.nodes ?? DEFAULT_NODES;
  if (!Number.isInteger(count) || count < 1 || count > 64) throw new StateError(`nodes: 1 to 64, not ${count}`);
  const log = options.log ?? SILENT_LOGGER;
  const world = options.world ?? memoryWorld();
  const envOf = (id: string) => world.envOf(id);
  const ids = Array.from({ length: count }, (_, index) => `n${index + 1}`);
  const first = envOf('n1');
  const key = newClusterKey(first.random);
  const nodes = ids.map((id): CatalogNode => ({
    id: id as NodeId,
    storeId: Buffer.from(first.random.bytes(8)).toString('hex'),
    address: addressOf(id),
    ...descriptionOf(id),
  }));
  const initial = firstCatalog({
    clusterId: key.clusterId,
    historyId: Buffer.from(first.random.bytes(8)).toString('hex') as HistoryId,
    atMs: wallMs(first.clock),
    nodes,
    ...(options.copies === undefined ? {} : { copies: options.copies }),
    ...(options.blockSizeBytes === undefined ? {} : { blockSizeBytes: options.blockSizeBytes }),
    ...(options.repairAfterMs === undefined ? {} : { repairAfterMs: options.repairAfterMs }),
    ...(options.collectEveryMs === undefined ? {} : { collectEveryMs: options.collectEveryMs }),
  });
  const { minReplicas } = options;
  const groups = initial.groups.map((group) => (minReplicas === undefined ? group : { ...group, minReplicas }));
  const catalog = { ...initial, groups };
  const directoryOf = (id: string) => new NodeDirectory(envOf(id).disk, '/node');
  for (const { id, storeId } of nodes) {
    await directoryOf(id).create({ clusterId: key.clusterId, nodeId: id, storeId }, catalog);
  }

  const running = new Map<string, RunningNode>();
  const clients = new Map<string, ClusterClient>();
  let clientCount = 0;
  const start = async (id: string) => {
    if (!ids.includes(id)) throw new StateError(`there is no node ${id}`);
    if (running.has(id)) return;
    const env = envOf(id);
    const directory = directoryOf(id);
    if (!(await directory.isInitialised())) {
      const others = ids.filter((other) => other !== id);
      await joinCluster({ env, key, directory, seeds: others.map(addressOf), log, id: id as NodeId });
    }
    const node = await startNode({
      env,
      key,
      directory,
      listen: addressOf(id),
      describe: descriptionOf(id),
      log,
      version: 'testing',
      pid: 0,
      residentBytes: () => 0,
      ...(options.rules === undefined ? {} : { rules: options.rules }),
    });
    running.set(id, node);
  };
  const connectAs = async (id: string) => {
    const seeds = nodes.map((node) => node.address);
    const made = await connectCluster({ env: envOf(id), seeds, key, label: 'test', log });
    clients.set(id, made);
    return made;
  };
  await Promise.all(ids.map(start));
  return {
    nodeIds: ids,
    client: () => connectAs(`c${++clientCount}`),
    async connect(user = { uid: 0, gid: 0 }) {
      const id = `c${++clientCount}`;
      const made = await connectAs(id);
      return made.openFileSystem(user, async () => {
        clients.delete(id);
        await made.close();
      });
    },
    startNode: start,
    addNode() {
      const id = `n${ids.length + 1}`;
      ids.push(id);
      return id;
    },
    async stopNode(id) {
      const node = running.get(id);
      running.delete(id);
      await node?.leave();
      await node?.close();
    },
    kill(id) {
      const nodeRan = running.delete(id);
      const clientRan = clients.delete(id);
      if (nodeRan || clientRan) world.kill(id);
    },
    node: (id) => running.get(id),
    async close() {
      try {
        await Promise.all([...clients.values()].map((made) => made.close()));
        clients.clear();
        await Promise.all([...running.values()].map((node) => node.close()));
        running.clear();
      } finally {
        release();
      }
    },
  };
}

/** Address of a host in a test cluster: n1 is 10.0.0.1, client c1 is 10.0.1.1. */
export function hostOf(id: string): string {
  const number = Number(id.slice(1));
  return `10.0.${id.startsWith('n') ? 0 : 1}.${number}`;
}

function addressOf(id: string): string {
  return `${hostOf(id)}:7400`;
}

function descriptionOf(id: string): Required<NodeDescription> {
  return { weight: 100, host: `host-${id}`, rack: 'rack', zone: 'zone' };
}

/** One memory world with real time: a disk a host, a network between them. */
function memoryWorld(): TestWorld {
  const { clock, random } = createNodeEnv();
  const network = new MemoryNetwork({ clock });
  const disks = new Map<string, MemoryDisk>();
  const running = new Map<string, { readonly env: Env; readonly life: Life }>();
  return {
    envOf(id) {
      const found = running.get(id);
      if (found !== undefined) return found.env;
      const disk = disks.get(id) ?? new MemoryDisk();
      disks.set(id, disk);
      const life: Life = { dead: false };
      const transport = network.transport(hostOf(id));
      const env = mortalEnv(createMemoryEnv({ clock, random, disk, transport }), life);
      running.set(id, { env, life });
      return env;
    },
    kill(id) {
      const found = running.get(id);
      if (found === undefined) return;
      found.life.dead = true;
      running.delete(id);
      network.killHost(hostOf(id));
      disks.get(id)?.killProcess();
    },
  };
}
