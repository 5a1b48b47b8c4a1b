/** The Network of one process: its address book of peers, the connections made to it, and what they share. */
import { Buffer } from 'node:buffer';
import type { Address, Connection, Env, Listener } from '../env.ts';
import { OverloadedError, PeerUnreachableError, StateError, TatamiError, TimeoutError, UsageError } from '../errors.ts';
import type { NodeId } from '../ids.ts';
import { HANDSHAKE_TIMEOUT_MS } from '../limits.ts';
import { establish } from './establish.ts';
import type { EstablishOptions, Establishing } from './establish.ts';
import type { OwnIdentity } from './handshake.ts';
import { CLUSTER_KEY_BYTES } from './handshake.ts';
import type { Log } from './log.ts';
import { MemberBoard } from './membership/board.ts';
import type { MemberState, MemberView } from './membership/board.ts';
import { Peer } from './peer.ts';
import type { RpcChannel } from './rpc.ts';
import type {
  CallOptions,
  Channel,
  Handler,
  Header,
  Network,
  News,
  PeerInfo,
  PeerState,
  RemoteIdentity,
  Reply,
} from './types.ts';

/**
 * Connections that have not proved themselves yet. When one more comes, the oldest is closed: an honest peer is through
 * in milliseconds, so those that linger are not.
 */
export const HANDSHAKES_MAX_COUNT = 64;

export interface NetworkIdentity {
  readonly kind: 'node' | 'client';
  /** Required for kind 'node'. */
  readonly nodeId?: NodeId;
  /** Empty while it is not known yet: a joiner that has only the key. */
  readonly clusterId: string;
  /** What `status` shows: host, pid, mount point. */
  readonly label: string;
  /** Told to peers instead of the address listened on (for example where that is 0.0.0.0). */
  readonly advertise?: Address;
}

export interface NetworkOptions {
  readonly env: Env;
  readonly identity: NetworkIdentity;
  /** The cluster key, 32 bytes. */
  readonly key: Uint8Array;
  readonly log: Log;
}

/** Whether there is TLS is the transport's affair: see createNodeTransport. */
export function createNetwork(options: NetworkOptions): Network {
  return new NodeNetwork(options);
}

const NO_NEWS: News = { catalogEpoch: 0, fullPermille: 0, gcGeneration: 0 };

class NodeNetwork implements Network {
  readonly #options: NetworkOptions;
  readonly #instanceId: string;
  readonly members: MemberBoard;
  readonly #memberCallbacks = new Set<(now: MemberView, before: MemberState | undefined) => void>();
  readonly #handlers = new Map<string, Handler>();
  readonly #peers = new Map<NodeId, Peer>();
  readonly #incoming = new Set<RpcChannel>();
  /** Channels that we dialled. */
  readonly #dialled = new Set<RpcChannel>();
  /** Made to us, not through the handshake yet. Invariant: at most HANDSHAKES_MAX_COUNT. */
  readonly #accepting = new Set<Establishing>();
  readonly #dialling = new Set<Establishing>();
  readonly #listeners: Listener[] = [];
  readonly #stateCallbacks = new Set<(id: NodeId, state: PeerState) => void>();
  #address: Address = '';
  #ownNews: () => News = () => NO_NEWS;
  #heard: (news: News, from: RemoteIdentity, channel: Channel) => void = () => undefined;
  #closing: Promise<void> | undefined;

  constructor(options: NetworkOptions) {
    const { key, identity, env } = options;
    if (key.length !== CLUSTER_KEY_BYTES)
      throw new UsageError(`the cluster key has ${key.length} bytes instead of ${CLUSTER_KEY_BYTES}`);
    if ((identity.kind === 'node') !== (identity.nodeId !== undefined))
      throw new StateError('a node, and only a node, has a node id');
    this.#options = options;
    this.#instanceId = Buffer.from(env.random.bytes(16)).toString('hex');
    this.members = new MemberBoard({
      ...(identity.nodeId === undefined ? {} : { self: identity.nodeId }),
      // Higher than that of any earlier run, as long as the clock was not put back; if it was, the node hears of it.
      incarnation: Number(env.clock.wallNs() / 1_000_000_000n),
      onChange: (now, before) => {
        for (const callback of [...this.#memberCallbacks]) callback(now, before);
      },
    });
  }

  handle(method: string, handler: Handler): void {
    if (this.#handlers.has(method)) throw new StateError(`there is a handler of ${method} already`);
    this.#handlers.set(method, handler);
  }

  call(to: NodeId, method: string, header: Header, options: CallOptions): Promise<Reply> {
    const peer = this.#peers.get(to);
    if (this.#closing !== undefined) return Promise.reject(closedError());
    if (peer === undefined) {
      return Promise.reject(
        new PeerUnreachableError(`node ${to} is not in the address book`, { info: { nodeId: to } }),
      );
    }
    const channel = peer.channel;
    if (channel !== undefined && !channel.closed) return channel.call(method, header, options);
    return this.#callOnceConnected(peer, method, header, options);
  }

  async #callOnceConnected(peer: Peer, method: string, header: Header, options: CallOptions): Promise<Reply> {
    const { clock } = this.#options.env;
    const startedMs = clock.monotonicMs();
    const channel = await peer.connected(options.timeoutMs);
    const timeoutMs = options.timeoutMs - (clock.monotonicMs() - startedMs);
    return channel.call(method, header, { ...options, timeoutMs });
  }

  async dial(address: Address, timeoutMs: number): Promise<Channel> {
    return this.#dial(address, timeoutMs);
  }

  setAddresses(addresses: ReadonlyMap<NodeId, Address>): void {
    if (this.#closing !== undefined) return;
    for (const [id, peer] of this.#peers) {
      const address = addresses.get(id);
      if (address === undefined) {
        this.#peers.delete(id);
        peer.remove();
      } else {
        peer.setAddress(address);
      }
    }
    for (const [id, address] of addresses) {
      if (this.#peers.has(id)) continue;
      const peer = new Peer(id, address, {
        env: this.#options.env,
        dial: (to, timeoutMs) => this.#dial(to, timeoutMs),
        onState: (peerId, state) => {
          for (const callback of [...this.#stateCallbacks]) callback(peerId, state);
        },
      });
      this.#peers.set(id, peer);
    }
    this.members.setMembers(new Set(addresses.keys()), this.#options.env.clock.monotonicMs());
  }

  peer(id: NodeId): PeerInfo {
    const peer = this.#peers.get(id);
    return {
      state: peer?.state ?? 'unknown',
      member: this.members.stateOf(id),
      heardMs: peer?.heardMs,
      rttMs: peer?.channel?.rttMs,
      inFlightCount: peer?.channel?.inFlightCount ?? 0,
      news: peer?.news,
    };
  }

  onPeerState(callback: (id: NodeId, state: PeerState) => void): () => void {
    this.#stateCallbacks.add(callback);
    return () => this.#stateCallbacks.delete(callback);
  }

  onMember(callback: (now: MemberView, before: MemberState | undefined) => void): () => void {
    this.#memberCallbacks.add(callback);
    return () => this.#memberCallbacks.delete(callback);
  }

  tellAll(node: NodeId): void {
    this.#peers.get(node)?.channel?.tellAll();
  }

  setNews(own: () => News, heard: (news: News, from: RemoteIdentity, channel: Channel) => void): void {
    this.#ownNews = own;
    this.#heard = heard;
  }

  incoming(): readonly Channel[] {
    return [...this.#incoming];
  }

  async listen(address: Address): Promise<Address> {
    if (this.#closing !== undefined) throw closedError();
    let listener: Listener;
    try {
      listener = await this.#options.env.transport.listen(address, (connection) => {
        this.#accept(connection);
      });
    } catch (error) {
      throw listenError(address, error);
    }
    // close() may have run meanwhile (the compiler cannot know).
    if ((this.#closing as Promise<void> | undefined) !== undefined) {
      await listener.close();
      throw closedError();
    }
    this.#listeners.push(listener);
    this.#address = listener.address;
    return listener.address;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (const handshake of [...this.#accepting, ...this.#dialling]) handshake.abort(closedError());
    for (const peer of this.#peers.values()) peer.remove();
    this.#peers.clear();
    for (const channel of [...this.#dialled, ...this.#incoming]) channel.close();
    this.#stateCallbacks.clear();
    this.#memberCallbacks.clear();
    await Promise.all(this.#listeners.splice(0).map((listener) => listener.close()));
  }

  async #dial(address: Address, timeoutMs: number): Promise<RpcChannel> {
    if (this.#closing !== undefined) throw closedError();
    const { clock, transport } = this.#options.env;
    const startedMs = clock.monotonicMs();
    const connection = await transport.connect(address, timeoutMs);
    const leftMs = timeoutMs - (clock.monotonicMs() - startedMs);
    if (this.#closing !== undefined || leftMs <= 0) {
      connection.destroy();
      throw leftMs <= 0 ? new TimeoutError(`no connection to ${address} within ${timeoutMs} ms`) : closedError();
    }
    const handshake = establish(
      this.#establishOptions(),
      connection,
      'initiator',
      Math.min(leftMs, HANDSHAKE_TIMEOUT_MS),
    );
    this.#dialling.add(handshake);
    try {
      const channel = await handshake.ready;
      this.#keep(this.#dialled, channel);
      return channel;
    } finally {
      this.#dialling.delete(handshake);
    }
  }

  #accept(connection: Connection): void {
    if (this.#closing !== undefined) {
      connection.destroy();
      return;
    }
    if (this.#accepting.size >= HANDSHAKES_MAX_COUNT) {
      const [oldest] = this.#accepting;
      oldest?.abort(new OverloadedError('too many connections are waiting to prove that they have the key'));
    }
    const handshake = establish(this.#establishOptions(), connection, 'responder', HANDSHAKE_TIMEOUT_MS);
    this.#accepting.add(handshake);
    handshake.ready.then(
      (channel) => {
        this.#accepting.delete(handshake);
        this.#keep(this.#incoming, channel);
        const { nodeId } = channel.remote;
        if (nodeId !== undefined) this.#peers.get(nodeId)?.seenAlive();
      },
      (error: unknown) => {
        this.#accepting.delete(handshake);
        const { message, code } = error instanceof TatamiError ? error : { message: String(error), code: undefined };
        this.#options.log(
          code === 'ERR_AUTH' ? 'warn' : 'info',
          `a connection from ${connection.remoteAddress} was not let in: ${message}`,
          { code },
        );
      },
    );
  }

  #keep(set: Set<RpcChannel>, channel: RpcChannel): void {
    if (this.#closing !== undefined) {
      channel.close();
      return;
    }
    set.add(channel);
    channel.onClose(() => set.delete(channel));
  }

  #establishOptions(): EstablishOptions {
    const { env, identity, key, log } = this.#options;
    const self: OwnIdentity = {
      kind: identity.kind,
      ...(identity.nodeId === undefined ? {} : { nodeId: identity.nodeId }),
      instanceId: this.#instanceId,
      address: identity.advertise ?? this.#address,
      label: identity.label,
    };
    return {
      env,
      key,
      clusterId: identity.clusterId,
      self,
      handlers: this.#handlers,
      ownNews: () => this.#ownNews(),
      ...(identity.kind === 'node' ? { board: this.members } : {}),
      heard: (news, rumours, nowMs, channel) => {
        const { nodeId } = channel.remote;
        const peer = nodeId === undefined ? undefined : this.#peers.get(nodeId);
        if (peer !== undefined) {
          peer.news = news;
          peer.heardMs = nowMs;
        }
        // Clients tell nothing.
        if (rumours !== undefined && nodeId !== undefined) this.members.hear(rumours, nowMs);
        this.#heard(news, channel.remote, channel);
      },
      onGoAway: (channel) => {
        const { nodeId } = channel.remote;
        if (nodeId !== undefined) this.#peers.get(nodeId)?.goingAway(channel);
      },
      log,
    };
  }
}

function closedError(): PeerUnreachableError {
  return new PeerUnreachableError('the network of this process is closed');
}

/** What Node says when a port cannot be had, in words that help. */
function listenError(address: Address, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'EADDRINUSE') {
    return new UsageError(`the address ${address} is already in use`, {
      remedy: 'Another process (perhaps another node) listens there: stop it, or choose another port with --listen.',
      cause: error,
    });
  }
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
    return new UsageError(`${address} is not an address of this machine`, {
      remedy: 'Choose an address that `ip addr` shows.',
      cause: error,
    });
  }
  if (code === 'EACCES') {
    return new UsageError(`no permission to listen on ${address}`, {
      remedy: 'Choose a port above 1023.',
      cause: error,
    });
  }
  return error;
}
