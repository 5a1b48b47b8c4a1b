/**
 * A network in memory: addresses, ordered byte streams, datagrams. Who carries the bytes, when and whether at all, is the
 * caller's: by default they arrive at the next microtask; the simulator delays, holds back and loses them.
 */
import type { Address, Clock, Connection, DatagramSocket, Listener, Transport } from '../env.ts';
import { PeerUnreachableError, TimeoutError } from '../errors.ts';

/** Something under way from one host to another. */
export interface Parcel {
  readonly kind: 'stream' | 'datagram';
  readonly from: string;
  readonly to: string;
  /** Present for streams: parcels of one flow must arrive in the order they were given. */
  readonly flow?: number;
  readonly bytes: number;
}

/** Calls `deliver` when the parcel arrives; never, if it is lost (datagrams only, or streams that never heal). */
export type Carrier = (parcel: Parcel, deliver: () => void) => void;

export interface MemoryNetworkOptions {
  readonly carrier?: Carrier;
  /** For time-outs of connect; without it an attempt that gets no answer waits for ever. */
  readonly clock?: Clock;
  /** Length of the next piece that a stream's bytes are cut into; default: not cut. */
  readonly pieceBytes?: (availableBytes: number) => number;
}

/** Bytes queued on a connection from which its owner waits for onDrain. */
const HIGH_WATER_BYTES = 1024 * 1024;
const FIRST_FREE_PORT = 40_001;
const LARGEST_DATAGRAM_BYTES = 65_507;
const BROADCAST_HOST = '255.255.255.255';
const ANY_HOSTS = new Set(['0.0.0.0', '[::]', '*', '']);

export class MemoryNetwork {
  readonly #options: MemoryNetworkOptions;
  readonly #listeners = new Map<Address, MemoryListener>();
  readonly #sockets = new Map<Address, MemoryDatagramSocket>();
  readonly #connections = new Set<MemoryConnection>();
  /** Hosts without power: nothing there answers, not even with a refusal. */
  readonly #dark = new Set<string>();
  /** Where the addresses used so far are; one that nobody listens on any more still belongs to its host. */
  readonly #hosts = new Map<string, string>();
  #nextPort = FIRST_FREE_PORT;
  #nextFlow = 1;

  constructor(options: MemoryNetworkOptions = {}) {
    this.#options = options;
  }

  /** The network as a host sees it. A host's addresses are those it has bound, and those that begin with its name. */
  transport(host: string): Transport {
    return {
      listen: async (address, onConnection) => this.#listen(host, address, onConnection),
      connect: (address, timeoutMs) => this.#connect(host, address, timeoutMs),
      datagram: async (address, options) => this.#datagram(host, address, options.broadcast),
    };
  }

  /** The host's process died: its operating system closes what it had open, and the other ends notice. */
  killHost(host: string): void {
    for (const [address, listener] of this.#listeners) if (listener.host === host) this.#listeners.delete(address);
    for (const [address, socket] of this.#sockets) if (socket.host === host) this.#sockets.delete(address);
    for (const connection of this.#connections) if (connection.localHost === host) connection.die();
  }

  /** The host lost its power: the other ends notice nothing, until they speak to it when it is back. */
  darken(host: string): void {
    this.#dark.add(host);
    this.killHost(host);
  }

  /** Power is back. */
  relight(host: string): void {
    this.#dark.delete(host);
  }

  /** Breaks all connections between two hosts, as a router that forgot them does. */
  breakConnections(a: string, b: string): void {
    for (const connection of [...this.#connections]) {
      const { localHost, remoteHost } = connection;
      if ((localHost === a && remoteHost === b) || (localHost === b && remoteHost === a)) connection.reset();
    }
  }

  /** @internal */
  isDark(host: string): boolean {
    return this.#dark.has(host);
  }

  /** @internal */
  carry(parcel: Parcel, deliver: () => void): void {
    const arrive = (): void => {
      if (!this.#dark.has(parcel.to)) deliver();
    };
    if (this.#dark.has(parcel.from)) return;
    if (this.#options.carrier) this.#options.carrier(parcel, arrive);
    else queueMicrotask(arrive);
  }

  /** @internal */
  pieceBytes(availableBytes: number): number {
    const wanted = this.#options.pieceBytes?.(availableBytes) ?? availableBytes;
    return Math.min(Math.max(1, Math.floor(wanted)), availableBytes);
  }

  /** @internal */
  closed(connection: MemoryConnection): void {
    this.#connections.delete(connection);
  }

  #hostOf(address: Address): string {
    const { name } = splitAddress(address);
    return this.#hosts.get(name) ?? name;
  }

  #bind(host: string, address: Address, taken: ReadonlyMap<Address, unknown>): Address {
    const { name, port } = splitAddress(address);
    const boundName = ANY_HOSTS.has(name) ? host : name;
    this.#hosts.set(boundName, host);
    if (port !== 0) {
      const bound = `${boundName}:${port}`;
      if (!taken.has(bound)) return bound;
      throw Object.assign(new Error(`listen EADDRINUSE: address already in use ${bound}`), { code: 'EADDRINUSE' });
    }
    while (taken.has(`${boundName}:${this.#nextPort}`)) this.#nextPort++;
    return `${boundName}:${this.#nextPort++}`;
  }

  #listen(host: string, address: Address, onConnection: (connection: Connection) => void): Listener {
    const bound = this.#bind(host, address, this.#listeners);
    const listener = { host, onConnection };
    this.#listeners.set(bound, listener);
    return {
      address: bound,
      close: async () => {
        if (this.#listeners.get(bound) === listener) this.#listeners.delete(bound);
      },
    };
  }

  #connect(host: string, address: Address, timeoutMs: number): Promise<Connection> {
    return new Promise((resolve, reject) => {
      let settled = false;
      const timer = this.#options.clock?.setTimer(timeoutMs, () => {
        settled = true;
        reject(new TimeoutError(`no answer from ${address} within ${timeoutMs} ms`));
      });
      const answered = (answer: () => void): void => {
        if (settled) return;
        settled = true;
        timer?.cancel();
        answer();
      };
      // Known before the parcel leaves: to whom it goes decides whether it arrives.
      const to = this.#listeners.get(address)?.host ?? this.#hostOf(address);
      const outFlow = this.#nextFlow++;
      const backFlow = this.#nextFlow++;
      this.carry({ kind: 'stream', from: host, to, flow: outFlow, bytes: 0 }, () => {
        const listener = this.#listeners.get(address);
        if (!listener) {
          this.carry({ kind: 'stream', from: to, to: host, flow: backFlow, bytes: 0 }, () =>
            answered(() => reject(new PeerUnreachableError(`connect ECONNREFUSED ${address}`))),
          );
          return;
        }
        const near = new MemoryConnection(this, host, to, address, outFlow);
        const far = new MemoryConnection(this, to, host, `${host}:${this.#nextPort++}`, backFlow);
        near.peer = far;
        far.peer = near;
        this.#connections.add(near).add(far);
        this.carry({ kind: 'stream', from: to, to: host, flow: backFlow, bytes: 0 }, () => {
          if (settled) near.destroy();
          answered(() => resolve(near));
        });
        listener.onConnection(far);
      });
    });
  }

  #datagram(host: string, address: Address, broadcast: boolean): DatagramSocket {
    const bound = this.#bind(host, address, this.#sockets);
    const socket: MemoryDatagramSocket = { host, receive: undefined };
    this.#sockets.set(bound, socket);
    const isOpen = (): boolean => this.#sockets.get(bound) === socket;
    const sendTo = (to: Address, target: MemoryDatagramSocket | undefined, packet: Uint8Array): void => {
      const toHost = target?.host ?? this.#hostOf(to);
      this.carry({ kind: 'datagram', from: host, to: toHost, bytes: packet.length }, () => {
        this.#sockets.get(to)?.receive?.(packet, bound);
      });
    };
    return {
      address: bound,
      send: (packet, to) => {
        if (!isOpen() || packet.length > LARGEST_DATAGRAM_BYTES) return;
        const copy = new Uint8Array(packet);
        const { name, port } = splitAddress(to);
        if (name !== BROADCAST_HOST) {
          sendTo(to, this.#sockets.get(to), copy);
          return;
        }
        if (!broadcast) return;
        for (const [other, target] of this.#sockets) {
          if (splitAddress(other).port === port) sendTo(other, target, copy);
        }
      },
      onMessage: (receive) => {
        socket.receive = receive;
      },
      broadcastAddresses: (port) => (broadcast ? [`${BROADCAST_HOST}:${port}`] : []),
      close: async () => {
        if (isOpen()) this.#sockets.delete(bound);
      },
    };
  }
}

interface MemoryListener {
  readonly host: string;
  readonly onConnection: (connection: Connection) => void;
}

interface MemoryDatagramSocket {
  readonly host: string;
  receive: ((packet: Uint8Array, from: Address) => void) | undefined;
}

type Arrival = Uint8Array | 'end';

class MemoryConnection implements Connection {
  readonly #network: MemoryNetwork;
  readonly #flow: number;
  readonly localHost: string;
  readonly remoteHost: string;
  readonly remoteAddress: Address;
  peer: MemoryConnection | undefined;

  #state: 'open' | 'closed' | 'dead' = 'open';
  #endSent = false;
  #endDelivered = false;
  #queuedBytes = 0;
  #isHigh = false;
  #paused = false;
  #pumpScheduled = false;
  readonly #inbox: Arrival[] = [];
  #receive: ((chunk: Uint8Array) => void) | undefined;
  #drained: (() => void) | undefined;
  #closed: ((error?: Error) => void) | undefined;
  /** Set when it ended before anybody asked to be told. */
  #closedWith: { readonly error: Error | undefined } | undefined;

  constructor(network: MemoryNetwork, localHost: string, remoteHost: string, remoteAddress: Address, flow: number) {
    this.#network = network;
    this.localHost = localHost;
    this.remoteHost = remoteHost;
    this.remoteAddress = remoteAddress;
    this.#flow = flow;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  write(chunks: readonly Uint8Array[]): void {
    if (this.#state !== 'open' || this.#endSent) return;
    for (const chunk of chunks) {
      for (let at = 0; at < chunk.length;) {
        const count = this.#network.pieceBytes(chunk.length - at);
        const piece = count === chunk.length ? chunk : chunk.subarray(at, at + count);
        this.#queuedBytes += count;
        this.#send(count, (peer) => peer.#arrive(piece));
        at += count;
      }
    }
    if (this.#queuedBytes > HIGH_WATER_BYTES) this.#isHigh = true;
  }

  onData(receive: (chunk: Uint8Array) => void): void {
    this.#receive = receive;
    this.#schedulePump();
  }

  onDrain(drained: () => void): void {
    this.#drained = drained;
  }

  onClose(closed: (error?: Error) => void): void {
    this.#closed = closed;
    const closedWith = this.#closedWith;
    if (!closedWith) return;
    this.#closedWith = undefined;
    queueMicrotask(() => this.#tell(closed, closedWith.error));
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#schedulePump();
  }

  end(): void {
    if (this.#state !== 'open' || this.#endSent) return;
    this.#endSent = true;
    this.#send(0, (peer) => peer.#arrive('end'));
  }

  destroy(error?: Error): void {
    if (this.#state !== 'open') return;
    this.#send(0, (peer) => peer.reset());
    this.#close(error);
  }

  /** The other end is gone. */
  reset(): void {
    if (this.#state !== 'open') return;
    this.#close(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }));
  }

  /** The process at this end died: nothing is called any more, the operating system resets the connection. */
  die(): void {
    if (this.#state === 'dead') return;
    if (this.#state === 'open') this.#send(0, (peer) => peer.reset());
    this.#state = 'dead';
    this.#inbox.length = 0;
    this.#network.closed(this);
  }

  get isEndDelivered(): boolean {
    return this.#endDelivered;
  }

  closeAfterEnd(): void {
    if (this.#state === 'open') this.#close(undefined);
  }

  #send(bytes: number, arrive: (peer: MemoryConnection) => void): void {
    const parcel: Parcel = { kind: 'stream', from: this.localHost, to: this.remoteHost, flow: this.#flow, bytes };
    this.#network.carry(parcel, () => {
      if (this.peer) arrive(this.peer);
    });
  }

  #arrive(arrival: Arrival): void {
    if (this.#state !== 'open') {
      // Bytes for a connection that this host no longer knows: it says so.
      if (arrival !== 'end') this.#send(0, (peer) => peer.reset());
      return;
    }
    this.#inbox.push(arrival);
    this.#pump();
  }

  #schedulePump(): void {
    if (this.#pumpScheduled) return;
    this.#pumpScheduled = true;
    queueMicrotask(() => {
      this.#pumpScheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    while (this.#state === 'open' && this.#receive && !this.#paused) {
      const arrival = this.#inbox.shift();
      if (arrival === undefined) return;
      if (arrival === 'end') {
        this.#endDelivered = true;
        this.end();
        this.#closeIfEnded();
      } else {
        this.#receive(arrival);
        this.peer?.taken(arrival.length);
      }
    }
  }

  /** The other end has given so many bytes to its owner. */
  taken(bytes: number): void {
    this.#queuedBytes -= bytes;
    if (!this.#isHigh || this.#queuedBytes >= HIGH_WATER_BYTES / 2) return;
    this.#isHigh = false;
    const drained = this.#drained;
    if (drained && this.#state === 'open') queueMicrotask(drained);
  }

  /** Ended in an orderly way once each side has read all that the other wrote. */
  #closeIfEnded(): void {
    const peer = this.peer;
    if (!this.#endDelivered || !peer?.isEndDelivered) return;
    if (this.#state === 'open') this.#close(undefined);
    peer.closeAfterEnd();
  }

  #close(error: Error | undefined): void {
    this.#state = 'closed';
    this.#inbox.length = 0;
    this.#network.closed(this);
    const closed = this.#closed;
    if (closed) queueMicrotask(() => this.#tell(closed, error));
    else this.#closedWith = { error };
  }

  #tell(closed: (error?: Error) => void, error: Error | undefined): void {
    if (this.#state === 'dead') return;
    if (error) closed(error);
    else closed();
  }
}

function splitAddress(address: Address): { name: string; port: number } {
  const colon = address.lastIndexOf(':');
  const port = Number(address.slice(colon + 1));
  if (colon < 0 || !Number.isInteger(port) || port < 0 || port > 65_535) {
    throw Object.assign(new Error(`not an address: ${address}`), { code: 'EINVAL' });
  }
  return { name: address.slice(0, colon), port };
}
