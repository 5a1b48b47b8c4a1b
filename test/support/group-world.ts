/**
 * Metadata groups alone, in the simulated world: real members, real network code and catalog, memory disks, virtual
 * time. Nodes n1 (primary), n2 (secondary), n3... (learners); clients on hosts of their own.
 */
import { firstCatalog, FIRST_GROUP_ID } from '../../src/catalog/document.ts';
import { CatalogReplica, proposeUntilChosen } from '../../src/catalog/replica.ts';
import type { Catalog, CatalogChange, CatalogNode, Group } from '../../src/catalog/types.ts';
import type { HistoryId, NodeId } from '../../src/ids.ts';
import { ROOT_INO } from '../../src/ids.ts';
import type { Logger } from '../../src/log.ts';
import type { GroupMember } from '../../src/meta/group/member.ts';
import type { GroupBounds } from '../../src/meta/group/member-options.ts';
import { connectMeta } from '../../src/meta/meta-client.ts';
import type { RemoteMetaClient } from '../../src/meta/meta-client.ts';
import { MetaService } from '../../src/meta/meta-service.ts';
import { createNetwork } from '../../src/net/network.ts';
import type { Network } from '../../src/net/types.ts';
import { NodeDirectory } from '../../src/node-directory.ts';
import { createSimWorld } from '../sim/world.ts';
import type { CrashHostOptions, SimWorld } from '../sim/world.ts';

const CLUSTER_ID = 'ab'.repeat(16);
const KEY = new Uint8Array(32).fill(7);

export interface GroupNode {
  readonly network: Network;
  readonly catalog: CatalogReplica;
  readonly meta: MetaService;
  readonly member: GroupMember;
}

export interface GroupClient {
  readonly network: Network;
  readonly catalog: CatalogReplica;
  readonly meta: RemoteMetaClient;
}

export class GroupWorld {
  readonly world: SimWorld;
  readonly names: readonly string[];
  readonly nodes = new Map<string, GroupNode>();
  /** Broken rules and failing disks, as `node: message`. */
  readonly failures: string[] = [];
  /** What the nodes said, as `node level message facts`. */
  readonly lines: string[] = [];
  readonly #clients: GroupClient[] = [];

  /** Told of each answered call of a member, by nodes started from now on. */
  onCall: ((from: string, to: string, method: string, header: unknown, reply: unknown) => void) | undefined;
  /** Told of each call that failed. */
  onRefusal: ((from: string, to: string, method: string, header: unknown, error: unknown) => void) | undefined;
  /** Told of what the nodes say. */
  onLine: ((name: string, message: string) => void) | undefined;
  /** Told of the first catalog of each node, and of each that it learns. */
  onCatalog: ((catalog: Catalog) => void) | undefined;
  /** For nodes started from now on. */
  bounds: GroupBounds | undefined;

  private constructor(seed: number, count: number) {
    this.world = createSimWorld({ seed, hosts: count });
    this.names = this.world.hostNames;
  }

  /** A cluster that runs and serves. */
  static async start(
    options: {
      seed?: number;
      nodes?: number;
      bounds?: GroupBounds;
      onCall?: GroupWorld['onCall'];
      onRefusal?: GroupWorld['onRefusal'];
      onLine?: GroupWorld['onLine'];
      onCatalog?: GroupWorld['onCatalog'];
    } = {},
  ): Promise<GroupWorld> {
    const made = new GroupWorld(options.seed ?? 1, options.nodes ?? 3);
    made.bounds = options.bounds;
    made.onCall = options.onCall;
    made.onRefusal = options.onRefusal;
    made.onLine = options.onLine;
    made.onCatalog = options.onCatalog;
    const members = made.names.map((id): CatalogNode => ({
      id: id as NodeId,
      storeId: id.slice(1).padStart(16, '0'),
      address: `${id}:7400`,
      weight: 1,
      host: id,
      rack: 'r',
      zone: 'z',
    }));
    const catalog = firstCatalog({ clusterId: CLUSTER_ID, historyId: '1'.repeat(16) as HistoryId, nodes: members });
    for (const { id, storeId } of members) {
      const identity = { clusterId: CLUSTER_ID, nodeId: id, storeId };
      await made.world.settle(made.#directory(id).create(identity, catalog));
    }
    for (const name of made.names) await made.startNode(name);
    await made.untilServing();
    return made;
  }

  #directory(name: string): NodeDirectory {
    return new NodeDirectory(this.world.envOf(name).disk, '/node');
  }

  #log(name: string): Logger {
    const say = (level: string) => (facts: object, message: string) => {
      this.onLine?.(name, message);
      this.lines.push(`${name} ${level} ${message} ${JSON.stringify(facts)}`);
    };
    return { debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') };
  }

  async startNode(name: string): Promise<GroupNode> {
    if (!this.world.isRunning(name)) this.world.restartHost(name);
    const node = await this.world.settle(this.#wire(name));
    this.nodes.set(name, node);
    return node;
  }

  async #wire(name: string): Promise<GroupNode> {
    const env = this.world.envOf(name);
    const directory = this.#directory(name);
    const { catalog: initial, identity } = await directory.load(CLUSTER_ID);
    const votes = await directory.openVotes(identity);
    const network = this.#network(name, 'node');
    const log = this.#log(name);
    const self = name as NodeId;
    const persist = (next: typeof initial) => directory.saveCatalog(next);
    const node = { self, storeId: identity.storeId, persist, votes };
    const catalog = new CatalogReplica({ env, network, initial, node, log: () => undefined });
    this.#news(network, catalog);
    this.onCatalog?.(catalog.current());
    catalog.subscribe((next) => this.onCatalog?.(next));
    const meta = await MetaService.open({
      self,
      env,
      network: this.onCall === undefined ? network : this.#heard(name, network, this.onCall),
      catalog,
      directory,
      log,
      ...(this.bounds === undefined ? {} : { bounds: this.bounds }),
    });
    void meta.failed.then((error) => this.failures.push(`${name}: ${error.message}`));
    await network.listen(`${name}:7400`);
    meta.start();
    return {
      network,
      catalog,
      meta,
      // Looked up each time: it may be opened anew.
      get member() {
        return meta.member(FIRST_GROUP_ID)!;
      },
    };
  }

  /** The same network, with what goes through `call` told. */
  #heard(from: string, network: Network, onCall: NonNullable<GroupWorld['onCall']>): Network {
    const call: Network['call'] = async (to, method, header, options) => {
      const reply = await network.call(to, method, header, options).catch((error: unknown) => {
        this.onRefusal?.(from, to, method, header, error);
        throw error;
      });
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

  #network(name: string, kind: 'node' | 'client'): Network {
    const own = kind === 'node' ? { nodeId: name as NodeId } : {};
    const identity = { kind, clusterId: CLUSTER_ID, label: name, ...own };
    return createNetwork({ env: this.world.envOf(name), identity, key: KEY, log: () => undefined });
  }

  #news(network: Network, catalog: CatalogReplica): void {
    network.setNews(
      () => ({ catalogEpoch: catalog.current().epoch, fullPermille: 0, gcGeneration: 0 }),
      (news, _from, channel) => catalog.heard(news, channel),
    );
  }

  /** In order; `leave`: handing its group over first, as a node does that is asked to stop. */
  async stopNode(name: string, { leave = false } = {}): Promise<void> {
    const node = this.nodes.get(name);
    if (leave && node !== undefined) await this.world.settle(node.meta.leave());
    this.nodes.delete(name);
    await this.world.settle(
      (async () => {
        await node?.meta.close();
        await node?.catalog.close();
        await node?.network.close();
      })(),
    );
    this.world.crashHost(name, { kind: 'process' });
  }

  crash(name: string, kind: NonNullable<CrashHostOptions['kind']>): void {
    this.nodes.delete(name);
    this.world.crashHost(name, { kind });
  }

  async client(host = 'c1', options: { leaseMs?: number } = {}): Promise<GroupClient> {
    const env = this.world.envOf(host);
    const network = this.#network(host, 'client');
    const initial = [...this.nodes.values()]
      .map((node) => node.catalog.current())
      .sort((a, b) => b.epoch - a.epoch)[0]!;
    const catalog = new CatalogReplica({ env, network, initial, log: () => undefined });
    this.#news(network, catalog);
    const meta = await this.world.settle(
      connectMeta({ env, network, catalog, log: this.#log(host), label: host, ...options }),
    );
    const made = { network, catalog, meta };
    this.#clients.push(made);
    return made;
  }

  /** A change of the catalog, as an operator's command makes it. */
  async change(change: CatalogChange): Promise<void> {
    const [node] = this.nodes.values();
    await this.world.settle(proposeUntilChosen(node!.catalog, () => change, 10_000, 1));
  }

  node(name: string): GroupNode {
    const node = this.nodes.get(name);
    if (node === undefined) throw new Error(`${name} does not run`);
    return node;
  }

  /** As the newest catalog of the running nodes says. */
  group(): Group {
    const groups = [...this.nodes.values()].map((node) => node.catalog.current().groups[0]!);
    return groups.sort((a, b) => b.epoch - a.epoch)[0]!;
  }

  serving(): string | undefined {
    return [...this.nodes].find(([, node]) => node.meta.member(FIRST_GROUP_ID)?.status().serving === true)?.[0];
  }

  untilServing(limitMs = 30_000): Promise<void> {
    return this.world.runUntil(() => this.serving() !== undefined, { what: 'a primary that serves', limitMs });
  }

  /** Waits until all running members have applied everything the primary has. */
  async quiet(limitMs = 60_000): Promise<void> {
    const even = () => {
      const states = [...this.nodes.values()].map((node) => node.meta.member(FIRST_GROUP_ID)?.status());
      const primary = states.find((state) => state?.serving === true);
      return primary !== undefined && states.every((state) => state?.appliedSeq === primary.loggedSeq);
    };
    await this.world.runUntil(even, { what: 'all members to have applied everything', limitMs });
  }

  /** The digest that all running members have; throws if they differ. */
  async digest(): Promise<string> {
    await this.quiet();
    const found = new Map<string, string>();
    for (const [name, node] of this.nodes) {
      const { digest, appliedSeq } = await this.world.settle(node.member.digest());
      found.set(name, `${appliedSeq}:${digest}`);
    }
    const [first] = found.values();
    for (const [name, digest] of found) {
      if (digest !== first) throw new Error(`${name} differs: ${JSON.stringify([...found])}`);
    }
    return first!;
  }

  create(client: GroupClient, name: string, options: { timeoutMs?: number } = {}): Promise<number> {
    const mutation = {
      op: 'make',
      parent: ROOT_INO,
      name: Buffer.from(name),
      type: 'file',
      mode: 0o644,
      owner: { uid: 0, gid: 0 },
      rdev: 0,
      exclusive: true,
    } as const;
    return client.meta.mutate(mutation, options).then((result) => result.attr!.ino);
  }

  createAll(client: GroupClient, names: readonly string[]): Promise<number[]> {
    return this.world.settle(Promise.all(names.map((name) => this.create(client, name))));
  }

  async list(client: GroupClient): Promise<string[]> {
    const query = { op: 'readdir', ino: ROOT_INO, after: new Uint8Array(), limit: 10_000, withAttrs: false } as const;
    const { entries } = await this.world.settle(client.meta.query<'readdir'>(query));
    return entries.map((entry) => Buffer.from(entry.name).toString());
  }

  async close(): Promise<void> {
    for (const client of this.#clients) {
      await this.world.settle(client.meta.close(), { limitMs: 120_000 });
      await this.world.settle(client.network.close());
    }
    for (const name of [...this.nodes.keys()].reverse()) await this.stopNode(name);
  }
}
