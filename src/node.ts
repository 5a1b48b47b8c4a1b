/**
 * The composition root of a node: wires disk, network, catalog, blocks and metadata groups, and owns the order of start
 * and stop. Start goes up the layers and listens last; stop goes down and flushes on the way.
 */
import { blockMethods } from './blocks/block-messages.ts';
import { BlockService } from './blocks/block-service.ts';
import { CountingEngine } from './blocks/counting-engine.ts';
import { PackEngine } from './blocks/pack-engine.ts';
import type { BlockEngine } from './blocks/types.ts';
import { fetchCatalog } from './catalog/fetch.ts';
import { CatalogReplica, proposeUntilChosen } from './catalog/replica.ts';
import type { Catalog, CatalogNode } from './catalog/types.ts';
import type { ClusterKey } from './cluster-key.ts';
import type { Env } from './env.ts';
import { UsageError } from './errors.ts';
import { blockIdToHex } from './ids.ts';
import type { NodeId } from './ids.ts';
import { ATTEMPT_TIMEOUT_MS, GiB, META_TIMEOUT_MS, PING_INTERVAL_MS } from './limits.ts';
import { sentences } from './log.ts';
import type { Logger } from './log.ts';
import { MetaService } from './meta/meta-service.ts';
import { createDiscovery } from './net/discovery.ts';
import { createNetwork } from './net/network.ts';
import type { Network, News } from './net/types.ts';
import type { NodeDirectory, NodeIdentity } from './node-directory.ts';
import type { NodeReport } from './upkeep/status.ts';

export interface StartNodeOptions {
  readonly env: Env;
  readonly key: ClusterKey;
  readonly directory: NodeDirectory;
  readonly log: Logger;
  /** Own address; default: the one that the catalog has. Another one is proposed to the catalog. */
  readonly listen?: string;
  /** How a node that is not in the catalog yet describes itself. */
  readonly describe?: NodeDescription;
  readonly reserveBytes?: number;
  /** UDP address at which Discovery is answered. */
  readonly discovery?: string;
  /** Shown by status. */
  readonly version: string;
  readonly pid: number;
  readonly residentBytes: () => number;
}

export interface NodeDescription {
  readonly host: string;
  readonly rack: string;
  readonly zone: string;
  /** GiB; default: the size of the disk. */
  readonly weight?: number;
}

export interface RunningNode {
  readonly id: NodeId;
  readonly address: string;
  readonly catalog: CatalogReplica;
  readonly network: Network;
  /** Parts of the node, for checks and tests. */
  readonly engine: BlockEngine;
  readonly blocks: BlockService;
  readonly meta: MetaService;
  /** Resolves with the reason if the node can no longer serve (its disk failed, a safety rule was broken). */
  readonly failed: Promise<Error>;
  /** Orderly: finishes, flushes, closes. Idempotent. */
  close(): Promise<void>;
}

/** Starts the node whose data is in `directory`. On failure everything that was opened is closed again. */
export async function startNode(options: StartNodeOptions): Promise<RunningNode> {
  const closers: (() => Promise<unknown>)[] = [];
  const closeAll = async () => {
    for (const close of closers.splice(0).reverse()) {
      await close().catch((error: unknown) => options.log.error({ error: String(error) }, 'while stopping'));
    }
  };
  try {
    return await wire(options, closers, closeAll);
  } catch (error) {
    await closeAll();
    throw error;
  }
}

async function wire(
  options: StartNodeOptions,
  closers: (() => Promise<unknown>)[],
  close: () => Promise<void>,
): Promise<RunningNode> {
  const { env, key, directory, log } = options;
  const { identity, catalog: stored } = await directory.load(key.clusterId);
  const lock = await lockDirectory(env, directory);
  closers.push(() => lock.release());
  const { clusterId, nodeId, storeId } = identity;
  const listen = options.listen ?? stored.nodes.find((node) => node.id === nodeId)?.address;
  if (listen === undefined) {
    throw new UsageError(`node ${nodeId} has no address yet`, { remedy: 'Give one with --listen HOST:PORT.' });
  }

  const label = `node ${nodeId}`;
  const network = createNetwork({
    env,
    identity: { kind: 'node', nodeId, clusterId, label },
    key: key.secret,
    log: (level, message, facts) => log[level](facts ?? {}, message),
  });
  closers.push(() => network.close());
  const catalog = new CatalogReplica({
    env,
    network,
    initial: stored,
    self: nodeId,
    persist: (next) => directory.saveCatalog(next),
    log: sentences(log),
  });

  const packs = await PackEngine.open({
    disk: env.disk,
    clock: env.clock,
    path: directory.blocksPath,
    storeId,
    log,
    ...(options.reserveBytes === undefined ? {} : { reserveBytes: options.reserveBytes }),
  });
  closers.push(() => packs.close());
  const engine = new CountingEngine(packs);
  const handoff = await env.disk.openKv(directory.handoffPath);
  closers.push(() => handoff.close());
  const blocks = await BlockService.open({ self: nodeId, engine, network, catalog, env, kv: handoff, log });
  closers.push(() => blocks.close());
  const meta = await MetaService.open({ self: nodeId, env, network, catalog, directory, log });
  closers.push(() => meta.close());

  const news = (): News => ({
    catalogEpoch: catalog.current().epoch,
    fullPermille: fullPermille(engine),
    gcGeneration: blocks.gcGeneration(),
  });
  network.setNews(news, (heard, _from, channel) => catalog.heard(heard, channel));
  const startedMs = env.clock.monotonicMs();
  const { diskId } = await env.disk.space(directory.path);
  network.handle(blockMethods.compact, async () => ({ header: { reclaimedBytes: await engine.compact() } }));
  network.handle('node.ping', () => ({ header: null }));
  network.handle('node.status', () => ({ header: report() }));

  const address = await network.listen(listen);
  await announceSelf(options, identity, catalog, address);
  meta.start();
  closers.push(keepInTouch(env, network, catalog, nodeId));
  if (options.discovery !== undefined) {
    const discovery = createDiscovery({
      env,
      key: key.secret,
      clusterId,
      self: address,
      groups: () =>
        meta
          .status()
          .filter((group) => group.role === 'primary')
          .map((group) => group.id),
    });
    await discovery.start(options.discovery);
    closers.push(() => discovery.close());
  }
  log.info({ address, nodeId, epoch: catalog.current().epoch }, 'serving');

  function report(): NodeReport {
    const usage = engine.usage();
    return {
      id: nodeId,
      storeId,
      pid: options.pid,
      version: options.version,
      uptimeMs: env.clock.monotonicMs() - startedMs,
      catalogEpoch: catalog.current().epoch,
      usedBytes: usage.liveBytes,
      fileBytes: usage.fileBytes,
      freeBytes: usage.freeBytes,
      capacityBytes: usage.capacityBytes,
      diskId,
      blockCount: usage.blockCount,
      damage: blocks.damageLog().map(({ pool, id, foundAtNs, healed }) => ({
        pool,
        id: blockIdToHex(id),
        foundAtMs: Number(foundAtNs / 1_000_000n),
        healed,
      })),
      handoffCount: blocks.pendingCopies(),
      readBytes: engine.readBytes,
      writtenBytes: engine.writtenBytes,
      residentBytes: options.residentBytes(),
      groups: meta.status(),
      mounts: clients(network),
    };
  }

  return { id: nodeId, address, catalog, network, engine, blocks, meta, failed: meta.failed, close };
}

function fullPermille(engine: CountingEngine): number {
  const { freeBytes, capacityBytes } = engine.usage();
  return capacityBytes <= 0 ? 1000 : Math.round((1 - freeBytes / capacityBytes) * 1000);
}

/** Programs and mounts that are connected, each once. */
function clients(network: Network): NodeReport['mounts'] {
  const found = new Map<string, NodeReport['mounts'][number]>();
  for (const { remote } of network.incoming()) {
    if (remote.kind !== 'client') continue;
    const { instanceId, address, label } = remote;
    found.set(instanceId, { instanceId, address, label });
  }
  return [...found.values()];
}

async function lockDirectory(env: Env, directory: NodeDirectory) {
  try {
    return await env.disk.lock(`${directory.path}/lock`);
  } catch (error) {
    if ((error as { code?: string }).code !== 'EBUSY') throw error;
    const pid = (error as { info?: { pid?: number } }).info?.pid;
    throw new UsageError(`another process${pid === undefined ? '' : ` (pid ${pid})`} uses ${directory.path}`, {
      cause: error,
      remedy: 'Stop it first: one node, one process.',
    });
  }
}

/** Enters the catalog, or changes the address there. */
async function announceSelf(
  options: StartNodeOptions,
  identity: NodeIdentity,
  catalog: CatalogReplica,
  address: string,
): Promise<void> {
  const known = catalog.current().nodes.find((node) => node.id === identity.nodeId);
  if (known?.address === address && known.storeId === identity.storeId) return;
  const space = await options.env.disk.space(options.directory.path);
  const described = options.describe ?? { host: identity.nodeId, rack: 'rack', zone: 'zone' };
  const fresh: CatalogNode = {
    id: identity.nodeId,
    storeId: identity.storeId,
    address,
    weight: described.weight ?? Math.max(1, Math.round(space.totalBytes / GiB)),
    host: described.host,
    rack: described.rack,
    zone: described.zone,
  };
  const decide = (current: Catalog) => {
    const own = current.nodes.find((node) => node.id === identity.nodeId);
    if (own?.storeId === identity.storeId && own.address === address) return undefined;
    return {
      kind: 'putNode',
      node: own === undefined ? fresh : { ...own, storeId: identity.storeId, address },
    } as const;
  };
  await proposeUntilChosen(catalog, decide, META_TIMEOUT_MS);
}

/** A quiet node still hears of newer catalogs and of peers that come and go. */
function keepInTouch(env: Env, network: Network, catalog: CatalogReplica, self: NodeId): () => Promise<void> {
  let stopped = false;
  let timer = env.clock.setTimer(PING_INTERVAL_MS, tick);
  function tick(): void {
    if (stopped) return;
    timer = env.clock.setTimer(PING_INTERVAL_MS, tick);
    for (const node of catalog.current().nodes) {
      if (node.id === self) continue;
      // Its outcome shows in the peer's state.
      network.call(node.id, 'node.ping', null, { timeoutMs: ATTEMPT_TIMEOUT_MS }).catch(() => undefined);
    }
  }
  return () => {
    stopped = true;
    timer.cancel();
    return Promise.resolve();
  };
}

export interface JoinOptions {
  readonly env: Env;
  readonly key: ClusterKey;
  readonly directory: NodeDirectory;
  readonly seeds: readonly string[];
  readonly id: NodeId;
  readonly log: Logger;
}

/**
 * Makes `directory` the data directory of a new node of the cluster that the seeds belong to. The node enters the
 * catalog when it is started.
 */
export async function joinCluster(options: JoinOptions): Promise<void> {
  const { env, key, directory, id } = options;
  const catalog = await fetchCatalog(env, key, options.seeds, `joining ${id}`, options.log);
  if (catalog.nodes.some((node) => node.id === id)) {
    throw new UsageError(`the cluster has a node ${id} already`, {
      remedy: 'Choose another name with --id, or start that node with its own data directory.',
    });
  }
  const storeId = Buffer.from(env.random.bytes(8)).toString('hex');
  await directory.create({ clusterId: key.clusterId, nodeId: id, storeId }, catalog);
}
