/**
 * The catalog alone in the simulated world: real replicas, votes, network code and upkeep of the voters; memory disks,
 * virtual time. Checks at each adoption that all nodes agree on each epoch.
 */
import { expect } from 'vitest';
import { FIRST_GROUP_ID, firstCatalog } from '../../src/catalog/document.ts';
import { CatalogReplica, proposeUntilChosen } from '../../src/catalog/replica.ts';
import type { Catalog, CatalogNode } from '../../src/catalog/types.ts';
import { keepCatalog } from '../../src/catalog/catalog-upkeep.ts';
import type { HistoryId, NodeId } from '../../src/ids.ts';
import { handleProbes, watchMembers } from '../../src/net/membership/driver.ts';
import { createNetwork } from '../../src/net/network.ts';
import type { Network } from '../../src/net/types.ts';
import { NodeDirectory } from '../../src/node-directory.ts';
import { createSimWorld } from '../sim/world.ts';
import type { CrashHostOptions, SimWorld } from '../sim/world.ts';

const CLUSTER_ID = 'ab'.repeat(16);
const KEY = new Uint8Array(32).fill(7);

export interface VotingNode {
  readonly network: Network;
  readonly catalog: CatalogReplica;
  stop(): void;
}

export interface CatalogWorldOptions {
  readonly seed?: number;
  readonly nodes?: number;
  /** Whether voters are kept as the planner wants them, and nodes ping each other. */
  readonly upkeep?: boolean;
  /** Told of each answered call between nodes. */
  readonly onCall?: (from: string, to: string, method: string, header: unknown, reply: unknown) => void;
  readonly describe?: (id: string) => Partial<CatalogNode>;
}

export class CatalogWorld {
  readonly world: SimWorld;
  readonly nodes = new Map<string, VotingNode>();
  readonly lines: string[] = [];
  /** Who made each epoch, and each epoch's document as some node adopted it. */
  readonly makers = new Map<number, string>();
  readonly documents = new Map<number, string>();
  readonly #options: CatalogWorldOptions;
  #poolCount = 0;

  private constructor(options: CatalogWorldOptions) {
    this.#options = options;
    this.world = createSimWorld({ seed: options.seed ?? 1, hosts: options.nodes ?? 3 });
  }

  static async start(options: CatalogWorldOptions = {}): Promise<CatalogWorld> {
    const made = new CatalogWorld(options);
    const nodes = made.world.hostNames.map((id) => made.describe(id));
    const catalog = firstCatalog({ clusterId: CLUSTER_ID, historyId: '1'.repeat(16) as HistoryId, nodes });
    for (const { id, storeId } of nodes) {
      const identity = { clusterId: CLUSTER_ID, nodeId: id, storeId };
      await made.world.settle(made.directory(id).create(identity, catalog));
    }
    for (const { id } of nodes) await made.startNode(id);
    return made;
  }

  describe(id: string): CatalogNode {
    return {
      id: id as NodeId,
      storeId: id.slice(1).padStart(16, '0'),
      address: `${id}:7400`,
      weight: 1,
      host: id,
      rack: 'r',
      zone: 'z',
      ...this.#options.describe?.(id),
    };
  }

  directory(name: string): NodeDirectory {
    return new NodeDirectory(this.world.envOf(name).disk, '/node');
  }

  async startNode(name: string): Promise<VotingNode> {
    if (!this.world.isRunning(name)) this.world.restartHost(name);
    const node = await this.world.settle(this.#wire(name));
    this.nodes.set(name, node);
    return node;
  }

  /** A new node that enters through the others. */
  async join(name: string, changes: Partial<CatalogNode> = {}): Promise<VotingNode> {
    const fresh = { ...this.describe(name), ...changes };
    const identity = { clusterId: CLUSTER_ID, nodeId: fresh.id, storeId: fresh.storeId };
    await this.world.settle(this.directory(name).create(identity, this.newest()));
    const node = await this.startNode(name);
    const isIn = (catalog: Catalog) => catalog.nodes.some(({ id }) => id === fresh.id);
    const decide = (catalog: Catalog) => (isIn(catalog) ? undefined : ({ kind: 'putNode', node: fresh } as const));
    await this.world.settle(proposeUntilChosen(node.catalog, decide, 30_000));
    return node;
  }

  async #wire(name: string): Promise<VotingNode> {
    const env = this.world.envOf(name);
    const directory = this.directory(name);
    const { catalog: initial, identity } = await directory.load(CLUSTER_ID);
    const votes = await directory.openVotes(identity);
    const self = name as NodeId;
    const real = createNetwork({
      env,
      identity: { kind: 'node', clusterId: CLUSTER_ID, label: name, nodeId: self },
      key: KEY,
      log: () => undefined,
    });
    const network = this.#heard(name, real);
    const log = (text: string) => this.lines.push(`${name} ${text}`);
    const persist = (next: Catalog) => directory.saveCatalog(next);
    const node = { self, storeId: identity.storeId, persist, votes };
    const catalog = new CatalogReplica({ env, network, initial, node, log });
    catalog.subscribe((next) => this.#adopted(next));
    network.setNews(
      () => ({ catalogEpoch: catalog.current().epoch, fullPermille: 0, gcGeneration: 0 }),
      (news, _from, channel) => catalog.heard(news, channel),
    );
    handleProbes(network);
    await network.listen(`${name}:7400`);
    if (this.#options.upkeep !== true) return { network, catalog, stop: () => undefined };
    const stopUpkeep = keepCatalog({ env, network, catalog, self, log });
    const stopWatching = watchMembers({ env, network, self });
    const stop = () => {
      void stopWatching();
      void stopUpkeep();
    };
    return { network, catalog, stop };
  }

  #heard(from: string, network: Network): Network {
    const { onCall } = this.#options;
    if (onCall === undefined) return network;
    const call: Network['call'] = async (to, method, header, options) => {
      const reply = await network.call(to, method, header, options);
      onCall(from, to, method, header, reply.header);
      return reply;
    };
    return new Proxy(network, {
      get: (target, key) => {
        if (key === 'call') return call;
        const value = Reflect.get(target, key) as unknown;
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  }

  /** The property: one document and one maker for each epoch, whoever says so; and no maker twice. */
  #adopted(catalog: Catalog): void {
    const text = JSON.stringify(catalog);
    const known = this.documents.get(catalog.epoch) ?? text;
    if (known !== text) throw new Error(`two catalogs of epoch ${catalog.epoch}:\n${known}\n${text}`);
    this.documents.set(catalog.epoch, text);
    for (const { epoch, proposal } of catalog.recent ?? []) {
      const maker = this.makers.get(epoch) ?? proposal;
      if (maker !== proposal) throw new Error(`epoch ${epoch} was made by ${maker} and by ${proposal}`);
      this.makers.set(epoch, proposal);
    }
    const makers = [...this.makers.values()];
    if (new Set(makers).size !== makers.length) throw new Error(`a proposal was made twice: ${makers.join(' ')}`);
  }

  crash(name: string, kind: NonNullable<CrashHostOptions['kind']> = 'power'): void {
    this.nodes.get(name)?.stop();
    this.nodes.delete(name);
    this.world.crashHost(name, { kind });
  }

  node(name: string): VotingNode {
    const node = this.nodes.get(name);
    if (node === undefined) throw new Error(`${name} does not run`);
    return node;
  }

  newest(): Catalog {
    const all = [...this.nodes.values()].map((node) => node.catalog.current());
    return all.sort((a, b) => b.epoch - a.epoch)[0]!;
  }

  /** A change that nobody else makes: a pool of its own. Resolves with the pool's name once it is acknowledged. */
  async change(by: string, timeoutMs = 5_000): Promise<string> {
    const number = 10 + this.#poolCount++;
    const name = `by-${by}-${number}`;
    const decide = (catalog: Catalog) => {
      if (catalog.pools.some((pool) => pool.name === name)) return undefined;
      const pool = { name, kind: 'library', copies: 1, blockSizeBytes: 65_536, pgCount: 1, domain: 'node' } as const;
      return { kind: 'createPool', pool } as const;
    };
    await proposeUntilChosen(this.node(by).catalog, decide, timeoutMs);
    return name;
  }

  /** Waits until all running nodes have the same catalog. */
  async agree(limitMs = 30_000): Promise<Catalog> {
    const agreed = () => new Set([...this.nodes.values()].map((node) => node.catalog.current().epoch)).size === 1;
    await this.world.runUntil(agreed, { what: 'all nodes to have the same catalog', limitMs });
    return this.newest();
  }

  async close(): Promise<void> {
    for (const node of this.nodes.values()) node.stop();
    await this.world.settle(Promise.all([...this.nodes.values()].map((node) => node.network.close())));
    expect(this.newest().groups.map((group) => group.id)).toEqual([FIRST_GROUP_ID]);
  }
}
