/**
 * A whole cluster in a simulated world: real node and client code, and the checkers of what must always hold (DESIGN
 * section 8).
 */
import assert from 'node:assert/strict';
import { verifyBlock } from '../../src/blocks/identity.ts';
import { FIRST_GROUP_ID } from '../../src/catalog/document.ts';
import type { Group } from '../../src/catalog/types.ts';
import type { ClusterClient } from '../../src/client.ts';
import { blockIdToHex } from '../../src/ids.ts';
import type { BlockId, PoolId } from '../../src/ids.ts';
import { KiB, PAGE_BYTES } from '../../src/limits.ts';
import type { Logger } from '../../src/log.ts';
import type { GroupRules } from '../../src/meta/group/rules.ts';
import type { RunningNode } from '../../src/node.ts';
import { hostOf, startCluster } from '../../src/testing.ts';
import type { TestCluster } from '../../src/testing.ts';
import type { FileSystem } from '../../src/vfs/api.ts';
import { createSimWorld } from './world.ts';
import type { CrashHostOptions, RunOptions, SimWorld, SimWorldOptions } from './world.ts';

export interface SimClusterOptions extends SimWorldOptions {
  readonly nodes?: number;
  readonly copies?: number;
  readonly rules?: GroupRules;
  readonly minReplicas?: 1 | 2;
  readonly repairAfterMs?: number;
  /** Default null: garbage is not collected by itself. */
  readonly collectEveryMs?: number | null;
}

const USER = { uid: 1000, gid: 1000 };
/** Small, so that a small file has many blocks. */
export const SIM_BLOCK_BYTES = 64 * KiB;
/** Longest that a cluster in order may take until all replicas have applied everything. */
const QUIET_LIMIT_MS = 60_000;

export class SimCluster {
  readonly world: SimWorld;
  readonly cluster: TestCluster;
  /** Told of every line that nodes and clients log. */
  onLine: ((message: string) => void) | undefined;
  #clientCount = 0;

  private constructor(world: SimWorld, cluster: TestCluster) {
    this.world = world;
    this.cluster = cluster;
  }

  static async start({
    nodes = 3,
    copies = 2,
    rules,
    minReplicas,
    repairAfterMs,
    collectEveryMs = null,
    ...options
  }: SimClusterOptions): Promise<SimCluster> {
    const world = createSimWorld({ clockError: { offsetMs: 500, drift: 0.0005 }, ...options });
    const made: { sim?: SimCluster } = {};
    const starting = startCluster({
      nodes,
      copies,
      blockSizeBytes: SIM_BLOCK_BYTES,
      world: {
        envOf: (id) => world.envOf(hostOf(id)),
        kill: (id) => {
          world.crashHost(hostOf(id), { kind: 'process' });
        },
      },
      log: loggerOf(world, (message) => made.sim?.onLine?.(message)),
      ...(rules === undefined ? {} : { rules }),
      ...(minReplicas === undefined ? {} : { minReplicas }),
      ...(repairAfterMs === undefined ? {} : { repairAfterMs }),
      collectEveryMs,
    });
    made.sim = new SimCluster(world, await world.settle(starting));
    return made.sim;
  }

  settle<T>(promise: Promise<T>, options?: RunOptions): Promise<T> {
    return this.world.settle(promise, options);
  }

  connect(): Promise<FileSystem> {
    this.#clientCount++;
    return this.settle(this.cluster.connect(USER));
  }

  client(): Promise<ClusterClient> {
    this.#clientCount++;
    return this.settle(this.cluster.client());
  }

  /** A node's or a client's machine (or with kind 'process' its program) stops at this instant. */
  crash(id: string, options?: CrashHostOptions): void {
    this.cluster.kill(id);
    if (options?.kind !== 'process') this.world.crashHost(hostOf(id), options);
  }

  crashAll(options?: CrashHostOptions): void {
    for (const id of this.cluster.nodeIds) this.crash(id, options);
  }

  /** Name of the client that connected last. */
  get latestClient(): string {
    return `c${this.#clientCount}`;
  }

  async restart(...ids: readonly string[]): Promise<void> {
    for (const id of ids) this.world.restartHost(hostOf(id));
    await this.settle(Promise.all(ids.map((id) => this.cluster.startNode(id))), { what: `start of ${ids.join(', ')}` });
  }

  async restartAll(): Promise<void> {
    await this.restart(...this.cluster.nodeIds);
  }

  nodes(): RunningNode[] {
    return this.cluster.nodeIds.map((id) => this.cluster.node(id)).filter((node) => node !== undefined);
  }

  /** The group as the node that wrote the newest catalog sees it. */
  group(): Group {
    const newest = this.nodes().sort((a, b) => b.catalog.current().epoch - a.catalog.current().epoch)[0];
    const group = newest?.catalog.current().groups[0];
    if (group === undefined) throw new Error('no node runs');
    return group;
  }

  /** A node that is neither primary nor secondary. */
  bystander(): string {
    const { primary, secondary } = this.group();
    const found = this.cluster.nodeIds.find((id) => id !== primary && id !== secondary);
    if (found === undefined) throw new Error('every node is in sync');
    return found;
  }

  /** Waits until every replica that runs has applied everything, and later copies are where they belong. */
  async quiet(): Promise<void> {
    const isQuiet = (): boolean => {
      const statuses = this.nodes().map((node) => node.meta.member(FIRST_GROUP_ID)?.status());
      const most = Math.max(...statuses.map((status) => status?.loggedSeq ?? 0));
      const level = statuses.every((status) => status?.appliedSeq === most && status.detail !== 'it takes a full copy');
      return level && this.nodes().every((node) => node.blocks.pendingCopies() === 0);
    };
    const what = 'quiet';
    try {
      await this.world.runUntil(isQuiet, { what, limitMs: QUIET_LIMIT_MS });
    } catch (error) {
      const statuses = this.nodes().map((node) => ({
        id: node.id,
        pendingCopies: node.blocks.pendingCopies(),
        ...node.meta.member(FIRST_GROUP_ID)?.status(),
      }));
      throw new Error(`never quiet: ${JSON.stringify(statuses, undefined, 1)}`, { cause: error });
    }
  }

  /** Waits for quiet, then checks all that must hold; the number of blocks that the metadata names. */
  async check(copies = 2): Promise<number> {
    await this.quiet();
    await this.#checkReplicas();
    return this.#checkBlocks(copies);
  }

  /** Replicas of the metadata are equal. */
  async #checkReplicas(): Promise<void> {
    const digests = await this.settle(
      Promise.all(this.nodes().map(async (node) => node.meta.member(FIRST_GROUP_ID)?.digest())),
    );
    for (const digest of digests) assert.deepEqual(digest, digests[0], 'replicas of the metadata differ');
  }

  /** Section 8, rule 4: a block that a committed extent names is on disk, intact, on two nodes (or more, if so many must be). */
  async #checkBlocks(copies: number): Promise<number> {
    const primary = this.nodes().find((node) => node.id === this.group().primary);
    const member = primary?.meta.member(FIRST_GROUP_ID);
    if (member === undefined) throw new Error('the primary does not run');
    const checked = new Set<string>();
    const wanted = Math.min(copies, this.nodes().length);
    for (let afterIno = 0, afterOffset = 0; ;) {
      const query = { op: 'allExtents', afterIno, afterOffset, limit: 1000 } as const;
      const page = await this.settle(Promise.resolve(member.query<'allExtents'>(query)));
      for (const { ino, extent } of page.items) {
        const name = `${extent.pool}:${blockIdToHex(extent.id)}`;
        afterIno = ino;
        afterOffset = extent.offset;
        if (checked.has(name)) continue;
        checked.add(name);
        const holders = await this.holdersOf(extent.pool, extent.id, extent.blockBytes);
        assert.ok(holders.length >= wanted, `block ${name} of inode ${ino} is on ${holders.join()}`);
      }
      if (!page.more) break;
    }
    return checked.size;
  }

  /** Blocks that the pools hold, with how many nodes have each. */
  async copiesByBlock(): Promise<Map<string, number>> {
    const counts = new Map<string, number>();
    for (const node of this.nodes()) {
      for (const pool of node.catalog.current().pools) {
        for await (const { id } of node.engine.list(pool.id)) {
          const name = `${pool.id}:${blockIdToHex(id)}`;
          counts.set(name, (counts.get(name) ?? 0) + 1);
        }
      }
    }
    return counts;
  }

  /** Nodes that have an intact copy on disk. */
  async holdersOf(pool: PoolId, id: BlockId, blockBytes: number): Promise<string[]> {
    const holders: string[] = [];
    for (const node of this.nodes()) {
      if (node.engine.has(pool, id) !== blockBytes) continue;
      const pages = Math.ceil(blockBytes / PAGE_BYTES);
      const run = await this.settle(node.engine.read(pool, id, 0, pages, false));
      if (run === undefined) continue;
      verifyBlock(id, run.data);
      run.release();
      holders.push(node.id);
    }
    return holders;
  }

  /** Every file of the tree, read through a fresh client. */
  async readAll(fs: FileSystem): Promise<Map<string, Buffer>> {
    const names = await this.settle(fs.readdir('/', { recursive: true, withFileTypes: true }));
    const files = new Map<string, Buffer>();
    for (const entry of names) {
      if (!entry.isFile()) continue;
      const path = `${entry.parentPath === '/' ? '' : entry.parentPath}/${String(entry.name)}`;
      files.set(path, await this.settle(fs.readFile(path), { what: `reading ${path}` }));
    }
    return files;
  }

  /** Ends the run; in order, as far as nodes run. */
  async close(): Promise<void> {
    await this.settle(this.cluster.close(), { what: 'the end' });
  }
}

/** With SIM_LOG in the environment every line that nodes and clients log, with the virtual time. */
function loggerOf(world: SimWorld, heard: (message: string) => void): Logger {
  const isShown = process.env['SIM_LOG'] !== undefined;
  const write = (level: string) => (facts: object, message: string) => {
    heard(message);
    if (!isShown) return;
    const text = JSON.stringify(facts, (_key, value: unknown) => (typeof value === 'bigint' ? Number(value) : value));
    process.stderr.write(`${world.time.nowMs.toFixed(1)} ${level} ${message} ${text}\n`);
  };
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
}
