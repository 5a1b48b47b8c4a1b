/**
 * What every kind of node has (src/node.ts: with data; src/witness.ts: without): its data directory, network, catalog and
 * vote, the entry of itself in the catalog, and keeping in touch.
 */
import { keepCatalog } from './catalog/catalog-upkeep.ts';
import { fetchCatalog } from './catalog/fetch.ts';
import { removalOf } from './catalog/membership.ts';
import { CatalogReplica, proposeUntilChosen } from './catalog/replica.ts';
import type { Catalog, CatalogNode } from './catalog/types.ts';
import type { ClusterKey } from './cluster-key.ts';
import type { Env } from './env.ts';
import { UsageError } from './errors.ts';
import type { GroupId, NodeId } from './ids.ts';
import { GiB, META_TIMEOUT_MS } from './limits.ts';
import { sentences } from './log.ts';
import type { Logger } from './log.ts';
import { createDiscovery } from './net/discovery.ts';
import { handleProbes, watchMembers } from './net/membership/driver.ts';
import { createNetwork } from './net/network.ts';
import type { Network, News } from './net/types.ts';
import type { NodeDirectory, NodeIdentity } from './node-directory.ts';
import { EventLog } from './upkeep/events/event-log.ts';
import { EventRecorder } from './upkeep/events/recorder.ts';
import { handleMembership } from './upkeep/membership.ts';
import { handlePools } from './upkeep/pools.ts';
import type { NodeReport } from './upkeep/status.ts';

export interface NodeCoreOptions {
  readonly env: Env;
  readonly key: ClusterKey;
  readonly directory: NodeDirectory;
  readonly log: Logger;
  /** Own address; default: the one that the catalog has. Another one is proposed to the catalog. */
  readonly listen?: string;
  /** How a node that is not in the catalog yet describes itself. */
  readonly describe?: NodeDescription;
  /** When it is new: it takes the place of that one, which is lost for good. */
  readonly replaces?: NodeId;
  /** UDP address at which Discovery is answered. */
  readonly discovery?: string;
  /** Shown by status. */
  readonly version: string;
  readonly pid: number;
  readonly residentBytes: () => number;
  /** How long the process's event loop stood still at most, lately. */
  readonly longestPauseMs?: () => number;
}

export interface NodeDescription {
  readonly host: string;
  readonly rack: string;
  readonly zone: string;
  /** GiB; default: the size of the disk. */
  readonly weight?: number;
}

/** What is closed at the end, in the reverse order. */
export class Closers {
  readonly #log: Logger;
  readonly #closers: (() => Promise<unknown>)[] = [];

  constructor(log: Logger) {
    this.#log = log;
  }

  add(close: () => Promise<unknown>): void {
    this.#closers.push(close);
  }

  /** Idempotent. One that fails does not keep the others from being closed. */
  async closeAll(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) {
      await close().catch((error: unknown) => this.#log.error({ error: String(error) }, 'while stopping'));
    }
  }
}

/** Runs `wire`; if it fails, everything that was opened is closed again. */
export async function wiring<T>(log: Logger, wire: (closers: Closers) => Promise<T>): Promise<T> {
  const closers = new Closers(log);
  try {
    return await wire(closers);
  } catch (error) {
    await closers.closeAll();
    throw error;
  }
}

export interface NodeCore {
  readonly identity: NodeIdentity;
  readonly network: Network;
  readonly catalog: CatalogReplica;
  /** Writes down what happens; ends with the network. */
  readonly recorder: EventRecorder;
  /** Where it will listen. */
  readonly listen: string;
  readonly startedMs: number;
  /** Resolves with the error when the catalog says that this node was taken out of the cluster. */
  readonly removed: Promise<Error>;
}

/** Opens directory, network and catalog; nothing is answered before {@link serve}. */
export async function openCore(options: NodeCoreOptions, closers: Closers): Promise<NodeCore> {
  const { env, key, directory, log } = options;
  // Whether it is a node's at all: else it would be locked for nothing.
  await directory.load(key.clusterId);
  const lock = await lockDirectory(env, directory);
  closers.add(() => lock.release());
  // Another process may have had it until now, and have saved what it heard last.
  const { identity, catalog: initial } = await directory.load(key.clusterId);
  const { clusterId, nodeId, storeId } = identity;
  const removal = removalOf(initial, storeId);
  if (removal !== undefined) throw removal;
  const listen = options.listen ?? initial.nodes.find((node) => node.id === nodeId)?.address;
  if (listen === undefined) {
    throw new UsageError(`node ${nodeId} has no address yet`, { remedy: 'Give one with --listen HOST:PORT.' });
  }
  const votes = await directory.openVotes(identity);
  const history = await EventLog.open({ disk: env.disk, random: env.random, path: directory.eventsPath, log });
  closers.add(() => history.close());
  const network = createNetwork({
    env,
    identity: { kind: 'node', nodeId, clusterId, label: `node ${nodeId}` },
    key: key.secret,
    log: (level, message, facts) => log[level](facts ?? {}, message),
  });
  closers.add(() => network.close());
  const catalog = new CatalogReplica({
    env,
    network,
    initial,
    node: { self: nodeId, storeId, persist: (next) => directory.saveCatalog(next), votes },
    log: sentences(log),
  });
  closers.add(() => catalog.close());
  const recorder = new EventRecorder({ env, network, catalog, self: nodeId, history });
  const removed = new Promise<Error>((resolve) => {
    closers.add(() => Promise.resolve(unsubscribe()));
    const unsubscribe = catalog.subscribe((next) => {
      const error = removalOf(next, storeId);
      if (error !== undefined) resolve(error);
    });
  });
  return { identity, network, catalog, recorder, listen, startedMs: env.clock.monotonicMs(), removed };
}

/** News, ping and status; then listens and enters the catalog. The address it listens at. */
export async function serve(
  options: NodeCoreOptions,
  core: NodeCore,
  kind: CatalogNode['kind'],
  own: { readonly news: () => Omit<News, 'catalogEpoch'>; readonly report: () => NodeReport },
): Promise<string> {
  const { network, catalog } = core;
  network.setNews(
    () => ({ catalogEpoch: catalog.current().epoch, ...own.news() }),
    (heard, _from, channel) => catalog.heard(heard, channel),
  );
  handleProbes(network);
  network.handle('node.status', () => ({ header: own.report() }));
  handleMembership(network, catalog);
  handlePools(network, catalog);
  const address = await network.listen(core.listen);
  await announceSelf(options, core, kind, address);
  return address;
}

/** What runs by itself once a node serves; `groups` are those that Discovery answers for. */
export async function stayInTouch(
  options: NodeCoreOptions,
  { identity, network, catalog }: NodeCore,
  address: string,
  groups: () => GroupId[],
  closers: Closers,
): Promise<void> {
  const { env, key, log, discovery: at } = options;
  closers.add(watchMembers({ env, network, self: identity.nodeId }));
  closers.add(keepCatalog({ env, network, catalog, self: identity.nodeId, log: sentences(log) }));
  if (at !== undefined) {
    const discovery = createDiscovery({ env, key: key.secret, clusterId: identity.clusterId, self: address, groups });
    await discovery.start(at);
    closers.add(() => discovery.close());
  }
  log.info({ address, nodeId: identity.nodeId, epoch: catalog.current().epoch }, 'serving');
}

/** The part of a node's report that every kind has; a node without data has nothing to add. */
export function coreReport(options: NodeCoreOptions, core: NodeCore): NodeReport {
  const { identity, catalog, network, startedMs } = core;
  const inquiry = catalog.voter?.inquiry();
  return {
    id: identity.nodeId,
    storeId: identity.storeId,
    pid: options.pid,
    version: options.version,
    uptimeMs: options.env.clock.monotonicMs() - startedMs,
    catalogEpoch: catalog.current().epoch,
    vote: { fit: inquiry?.fit ?? false, reason: inquiry?.reason ?? '' },
    usedBytes: 0,
    fileBytes: 0,
    freeBytes: 0,
    capacityBytes: 0,
    diskId: identity.storeId,
    blockCount: 0,
    damage: [],
    handoffCount: 0,
    readBytes: 0,
    writtenBytes: 0,
    residentBytes: options.residentBytes(),
    ...(options.longestPauseMs === undefined ? {} : { longestPauseMs: options.longestPauseMs() }),
    groups: [],
    mounts: clients(network),
  };
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
  options: NodeCoreOptions,
  { identity, catalog }: NodeCore,
  kind: CatalogNode['kind'],
  address: string,
): Promise<void> {
  const { nodeId: id, storeId } = identity;
  const known = catalog.current().nodes.find((node) => node.id === id);
  if (known?.address === address && known.storeId === storeId) return;
  const space = await options.env.disk.space(options.directory.path);
  const described = options.describe ?? { host: id, rack: 'rack', zone: 'zone' };
  const fresh: CatalogNode = {
    id,
    ...(kind === undefined ? {} : { kind }),
    storeId,
    address,
    weight: kind === 'witness' ? 1 : (described.weight ?? Math.max(1, Math.round(space.totalBytes / GiB))),
    host: described.host,
    rack: described.rack,
    zone: described.zone,
  };
  const decide = (current: Catalog) => {
    const removal = removalOf(current, storeId);
    if (removal !== undefined) throw removal;
    const own = current.nodes.find((node) => node.id === id);
    if (own?.storeId === storeId && own.address === address) return undefined;
    if (own !== undefined) return { kind: 'putNode', node: { ...own, storeId, address } } as const;
    const { replaces } = options;
    return replaces === undefined
      ? ({ kind: 'putNode', node: fresh } as const)
      : ({ kind: 'replaceNode', id: replaces, node: fresh } as const);
  };
  await proposeUntilChosen(catalog, decide, META_TIMEOUT_MS);
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
