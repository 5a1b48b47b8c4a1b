/**
 * A cluster of block services in one process for tests of the blocks layer: fake network with faults, memory engines,
 * virtual time. No sockets, no waiting: time passes only when nothing else can happen.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { createBlockClient, type ClusterBlockClient } from '../../src/blocks/block-client.ts';
import { BlockService } from '../../src/blocks/block-service.ts';
import { MemoryEngine, type MemoryEngineOptions } from '../../src/blocks/memory-engine.ts';
import type { BlockEngine } from '../../src/blocks/types.ts';
import type { Catalog, Pool } from '../../src/catalog/types.ts';
import { MemoryDisk } from '../../src/env-memory/disk.ts';
import type { Clock, Kv, Random, Timer } from '../../src/env.ts';
import { CancelledError, PeerUnreachableError, TimeoutError } from '../../src/errors.ts';
import type { Epoch, NodeId, PoolId } from '../../src/ids.ts';
import { MemberBoard } from '../../src/net/membership/board.ts';
import type {
  CallOptions,
  Channel,
  Handler,
  Header,
  Network,
  News,
  PeerInfo,
  PeerState,
  Reply,
} from '../../src/net/types.ts';

/** Time that stands still until `advance`. */
export class VirtualClock implements Clock {
  nowMs = 1_000;
  readonly #timers = new Set<{ readonly atMs: number; readonly callback: () => void }>();

  monotonicMs(): number {
    return this.nowMs;
  }
  wallNs(): bigint {
    return BigInt(Math.round(this.nowMs * 1e6));
  }
  setTimer(delayMs: number, callback: () => void): Timer {
    const timer = { atMs: this.nowMs + delayMs, callback };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }
  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        timer.cancel();
        reject(new CancelledError());
      };
      const timer = this.setTimer(delayMs, () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
      if (signal?.aborted === true) onAbort();
      else signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
  /** Goes to the next timer and runs it. False if there is none. */
  step(): boolean {
    let next: { readonly atMs: number; readonly callback: () => void } | undefined;
    for (const timer of this.#timers) if (next === undefined || timer.atMs < next.atMs) next = timer;
    if (next === undefined) return false;
    this.#timers.delete(next);
    this.nowMs = Math.max(this.nowMs, next.atMs);
    next.callback();
    return true;
  }
}

const random: Random = {
  bytes: (length) => {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = counter++ & 0xff;
    return bytes;
  },
  below: () => 0,
};
let counter = 0;

export interface CallInfo {
  readonly from: string;
  readonly to: NodeId;
  readonly method: string;
  readonly header: Header;
}

/** Chunks in which payloads travel: small, so that tests see streaming. */
const CHUNK_BYTES = 16 * 1024;

export class FakeHub {
  readonly clock: VirtualClock;
  readonly networks = new Map<NodeId, FakeNetwork>();
  readonly down = new Set<NodeId>();
  readonly calls: CallInfo[] = [];
  /** Runs before the handler at the receiver; may delay, throw, or kill nodes. */
  onCall: ((call: CallInfo) => Promise<void> | void) | undefined;
  /** Runs after the handler, before the reply reaches the caller; may change the payload. */
  onReply: ((call: CallInfo, reply: Reply) => Promise<Reply | void> | Reply | void) | undefined;
  /** Runs for each payload chunk on its way. */
  onChunk: ((call: CallInfo, sentBytes: number) => Promise<void> | void) | undefined;
  readonly news = new Map<NodeId, News>();
  readonly #cuts = new Set<{ readonly node: NodeId; readonly from: string; readonly cut: () => void }>();

  constructor(clock: VirtualClock) {
    this.clock = clock;
  }

  /** The node dies now: what was under way at it or from it breaks. `noticed` false: peers do not know yet. */
  kill(node: NodeId, noticed = true): void {
    this.down.add(node);
    for (const cut of [...this.#cuts]) if (cut.node === node || cut.from === node) cut.cut();
    for (const network of this.networks.values()) {
      if (noticed) network.setState(node, 'down');
    }
  }

  revive(node: NodeId): void {
    this.down.delete(node);
    for (const network of this.networks.values()) network.setState(node, 'up');
  }

  async call(from: string, to: NodeId, method: string, header: Header, options: CallOptions): Promise<Reply> {
    const call: CallInfo = { from, to, method, header: structuredClone(header) };
    this.calls.push(call);
    const stop = new AbortController();
    let fail: (error: Error) => void = () => undefined;
    const failed = new Promise<never>((_, reject) => (fail = reject));
    failed.catch(() => undefined);
    const end = (error: Error): void => {
      stop.abort(error);
      fail(error);
    };
    const cut = { node: to, from, cut: () => end(new PeerUnreachableError(`${to} is gone`)) };
    this.#cuts.add(cut);
    const timer = this.clock.setTimer(options.timeoutMs, () => end(new TimeoutError(`${method} at ${to} timed out`)));
    const onAbort = (): void => end(options.signal?.reason as Error);
    options.signal?.addEventListener('abort', onAbort, { once: true });
    if (options.signal?.aborted === true) onAbort();
    try {
      return await Promise.race([failed, this.#deliver(call, options, stop.signal)]);
    } finally {
      timer.cancel();
      options.signal?.removeEventListener('abort', onAbort);
      this.#cuts.delete(cut);
    }
  }

  async #deliver(call: CallInfo, options: CallOptions, signal: AbortSignal): Promise<Reply> {
    await turn();
    await this.onCall?.(call);
    signal.throwIfAborted();
    const handler = this.networks.get(call.to)?.handlers.get(call.method);
    if (this.down.has(call.to) || this.down.has(call.from as NodeId) || handler === undefined) {
      throw new PeerUnreachableError(`${call.to} cannot be reached`);
    }
    const { payload } = options;
    const chunks = (): AsyncGenerator<Uint8Array> => this.#chunks(call, payload, signal);
    const reply = await handler({
      method: call.method,
      header: structuredClone(call.header),
      remote: { kind: 'node', instanceId: call.from, address: addressOf(call.from), label: call.from },
      payloadBytes:
        payload === undefined
          ? 0
          : 'lengthBytes' in payload
            ? payload.lengthBytes
            : payload.reduce((sum, piece) => sum + piece.length, 0),
      payload: async () => {
        const all: Uint8Array[] = [];
        for await (const chunk of chunks()) all.push(chunk);
        return Buffer.concat(all);
      },
      payloadChunks: chunks,
      signal,
      deadlineMs: this.clock.monotonicMs() + options.timeoutMs,
      channel: undefined as unknown as Channel,
    });
    const result: Reply = {
      header: structuredClone(reply.header),
      payload: new Uint8Array(Buffer.concat(reply.payload ?? [])),
    };
    reply.release?.();
    const changed = await this.onReply?.(call, result);
    signal.throwIfAborted();
    if (this.down.has(call.to)) throw new PeerUnreachableError(`${call.to} is gone`);
    return changed ?? result;
  }

  async *#chunks(call: CallInfo, payload: CallOptions['payload'], signal: AbortSignal): AsyncGenerator<Uint8Array> {
    if (payload === undefined) return;
    const source: AsyncIterable<Uint8Array> | readonly Uint8Array[] =
      'lengthBytes' in payload ? payload.chunks : payload;
    let sentBytes = 0;
    for await (const piece of source) {
      for (let at = 0; at < piece.length; at += CHUNK_BYTES) {
        await turn();
        await this.onChunk?.(call, sentBytes);
        signal.throwIfAborted();
        const chunk = new Uint8Array(piece.subarray(at, at + CHUNK_BYTES));
        sentBytes += chunk.length;
        yield chunk;
      }
    }
  }
}

export class FakeNetwork implements Network {
  readonly handlers = new Map<string, Handler>();
  /** Tests say by `members.hear` what nodes are held to be. */
  readonly members = new MemberBoard();
  readonly #hub: FakeHub;
  readonly #name: string;
  readonly #states = new Map<NodeId, PeerState>();
  readonly #listeners = new Set<(id: NodeId, state: PeerState) => void>();
  readonly #inFlight = new Map<NodeId, number>();

  constructor(hub: FakeHub, name: string) {
    this.#hub = hub;
    this.#name = name;
  }
  handle(method: string, handler: Handler): void {
    this.handlers.set(method, handler);
  }
  async call(to: NodeId, method: string, header: Header, options: CallOptions): Promise<Reply> {
    this.#inFlight.set(to, (this.#inFlight.get(to) ?? 0) + 1);
    try {
      return await this.#hub.call(this.#name, to, method, header, options);
    } finally {
      this.#inFlight.set(to, (this.#inFlight.get(to) ?? 1) - 1);
    }
  }
  setState(node: NodeId, state: PeerState): void {
    this.#states.set(node, state);
    for (const listener of this.#listeners) listener(node, state);
  }
  peer(id: NodeId): PeerInfo & { readonly rttMs: number } {
    return {
      state: this.#states.get(id) ?? 'up',
      member: this.members.stateOf(id),
      rttMs: 1,
      inFlightCount: this.#inFlight.get(id) ?? 0,
      news: this.#hub.news.get(id),
    };
  }
  onPeerState(callback: (id: NodeId, state: PeerState) => void): () => void {
    this.#listeners.add(callback);
    return () => void this.#listeners.delete(callback);
  }
  onMember(): () => void {
    return () => undefined;
  }
  tellAll(): void {
    // Nothing rides on the hub's calls.
  }
  /** By the addresses of {@link addressOf}. */
  dial(address: string): Promise<Channel> {
    const to = address.slice(0, address.indexOf(':')) as NodeId;
    if (!this.#hub.networks.has(to) || this.#hub.down.has(to)) {
      return Promise.reject(new PeerUnreachableError(`nobody is at ${address}`));
    }
    let closed = false;
    const hub = this.#hub;
    return Promise.resolve({
      remote: { kind: 'client', instanceId: to, address, label: to },
      get closed() {
        return closed || hub.down.has(to);
      },
      call: (method, header, options) => hub.call(this.#name, to, method, header, options),
      onClose: () => undefined,
      close: () => (closed = true),
    } satisfies Channel);
  }
  setAddresses(): void {
    // The hub knows everyone.
  }
  setNews(): void {
    // Tests set the hub's news.
  }
  incoming(): readonly Channel[] {
    return [];
  }
  listen(address: string): Promise<string> {
    return Promise.resolve(address);
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

export interface FakeNode {
  readonly id: NodeId;
  readonly engine: BlockEngine;
  readonly kv: Kv;
  service: BlockService;
  catalog: Catalog;
}

export interface FakeClusterOptions {
  readonly nodes: number;
  readonly pool?: Partial<Pool>;
  readonly engine?: (index: number) => BlockEngine;
  readonly capacity?: (index: number) => MemoryEngineOptions;
}

export const POOL = 1 as PoolId;

export class FakeCluster {
  readonly clock = new VirtualClock();
  readonly hub = new FakeHub(this.clock);
  readonly nodes: FakeNode[] = [];
  readonly log: string[] = [];
  catalog!: Catalog;
  client!: ClusterBlockClient;
  clientNetwork!: FakeNetwork;

  static async start(options: FakeClusterOptions): Promise<FakeCluster> {
    const cluster = new FakeCluster();
    const ids = Array.from({ length: options.nodes }, (_, i) => `n${i + 1}` as NodeId);
    cluster.catalog = {
      formatVersion: 1,
      clusterId: '0'.repeat(32),
      epoch: 1 as Epoch,
      nodes: ids.map((id) => ({ id, storeId: id, address: 'fake:1', weight: 100, host: id, rack: 'r', zone: 'z' })),
      voters: [],
      pools: [
        {
          id: POOL,
          name: 'data',
          kind: 'filesystem',
          copies: 3,
          blockSizeBytes: 4 << 20,
          pgCount: 64,
          domain: 'node',
          upmap: {},
          placementEpoch: 1 as Epoch,
          ...options.pool,
        },
      ],
      groups: [],
      tablets: [],
    };
    for (const [index, id] of ids.entries()) {
      const engine = options.engine?.(index) ?? new MemoryEngine(options.capacity?.(index) ?? {});
      const kv = await new MemoryDisk({}).openKv('/kv');
      const node = { id, engine, kv, catalog: cluster.catalog } as FakeNode;
      cluster.nodes.push(node);
      await cluster.startService(node);
    }
    cluster.clientNetwork = new FakeNetwork(cluster.hub, 'client');
    cluster.client = createBlockClient({
      network: cluster.clientNetwork,
      catalog: { current: () => cluster.catalog },
      env: { clock: cluster.clock },
    });
    cluster.hub.networks.set('client' as NodeId, cluster.clientNetwork);
    return cluster;
  }

  async startService(node: FakeNode): Promise<void> {
    const network = new FakeNetwork(this.hub, node.id);
    for (const id of this.hub.down) network.setState(id, 'down');
    this.hub.networks.set(node.id, network);
    const write = (facts: Readonly<Record<string, unknown>>, message: string): void =>
      void this.log.push(`${node.id} ${message} ${JSON.stringify(facts)}`);
    node.service = await BlockService.open({
      self: node.id,
      engine: node.engine,
      network,
      catalog: { current: () => node.catalog },
      env: { clock: this.clock, random },
      kv: node.kv,
      log: { info: write, warn: write },
    });
  }

  node(id: NodeId): FakeNode {
    const found = this.nodes.find((node) => node.id === id);
    if (found === undefined) throw new Error(`no node ${id}`);
    return found;
  }

  /** Lets things happen, time included, until the promise settles. */
  async settle<T>(promise: Promise<T>): Promise<T> {
    let done = false;
    const watched = promise.finally(() => (done = true));
    watched.catch(() => undefined);
    await this.#until(() => done, 100_000);
    return await watched;
  }

  /** Lets things happen until the condition holds. */
  async until(condition: () => boolean): Promise<void> {
    await this.#until(condition, 10_000);
  }

  /** Lets everything that needs no time happen. */
  async quiet(): Promise<void> {
    for (let i = 0; i < 200; i++) await turn();
  }

  async #until(condition: () => boolean, steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) {
      for (let i = 0; i < 60; i++) {
        if (condition()) return;
        await turn();
      }
      if (!this.clock.step()) {
        await this.quiet();
        if (condition()) return;
        throw new Error('nothing more will happen');
      }
    }
    throw new Error('it does not settle');
  }

  async close(): Promise<void> {
    const closing = Promise.all([this.client.close(), ...this.nodes.map((node) => node.service.close())]);
    await this.settle(closing);
  }
}

/** Where a member of the hub can be dialled. */
export function addressOf(name: string): string {
  return `${name}:1`;
}

/** Bytes that differ from page to page. */
export function pattern(length: number, seed = 1): Uint8Array {
  const words = new Uint32Array(Math.ceil(length / 4));
  for (let i = 0, x = seed * 2654435761; i < words.length; i++)
    words[i] = x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
  return new Uint8Array(words.buffer, 0, length);
}
