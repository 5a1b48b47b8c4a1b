/**
 * What the layers above see of the network: symmetric RPC between nodes and clients, by node id, with a deadline on
 * every request. Wire format: docs/formats.md; rules: docs/protocol.md.
 */
import type { CancelSignal } from '../cancel.ts';
import type { Address } from '../env.ts';
import type { NodeId } from '../ids.ts';
import type { MemberBoard, MemberState, MemberView } from './membership/board.ts';

/** Anything msgpack can carry: null, booleans, numbers, bigints, strings, Uint8Arrays, arrays, plain objects. */
export type Header = unknown;

/** Who is at the other end, as proved by the handshake (that it has the cluster key) and as it says (its name). */
export interface RemoteIdentity {
  readonly kind: 'node' | 'client';
  /** Present iff kind is 'node'. */
  readonly nodeId?: NodeId;
  /** Random per process start; tells two mounts or two runs of a node apart. */
  readonly instanceId: string;
  readonly address: Address;
  /** What `status` shows of a client: host, pid, mount point. */
  readonly label: string;
}

/** Bytes that follow a header. Chunks of a stream must add up to exactly lengthBytes. */
export type Payload =
  readonly Uint8Array[] | { readonly lengthBytes: number; readonly chunks: AsyncIterable<Uint8Array> };

export interface CallOptions {
  /** From now; then TimeoutError, and the peer is told to cancel. Required: nothing waits for ever. */
  readonly timeoutMs: number;
  readonly signal?: CancelSignal;
  readonly payload?: Payload;
  /**
   * Where the reply's payload goes, if it fits; `Reply.payload` is then the front part of it. Saves a copy. Nothing is
   * written to it once the call has ended, in whatever way; before that it may be partly written.
   */
  readonly into?: Uint8Array;
}

export interface Reply {
  readonly header: Header;
  /** Owned by the caller; empty if there was none. */
  readonly payload: Uint8Array;
  /**
   * Optional to call, at most once: the payload, and every view of it, is no longer used by anybody, so its memory may
   * be filled again (ten times cheaper than fresh memory: net/buffer-pool.ts). Absent where there is nothing to gain.
   */
  readonly recycle?: () => void;
}

export interface IncomingRequest {
  readonly method: string;
  readonly header: Header;
  readonly remote: RemoteIdentity;
  readonly payloadBytes: number;
  /** The whole payload, owned by the handler. Use this or payloadChunks, once. */
  payload(): Promise<Uint8Array>;
  /** The payload as it arrives; chunks are owned by the handler. Rejects if the sender goes away. */
  payloadChunks(): AsyncIterable<Uint8Array>;
  /** As Reply.recycle, for the request's payload, once it has been taken whole. Absent in fakes. */
  recycle?(): void;
  /** Fires when the caller cancelled, its deadline passed or it is gone. */
  readonly signal: CancelSignal;
  /** Monotonic time (our clock) at which the caller stops waiting. */
  readonly deadlineMs: number;
  /** Calls back to the one who asked (a client has no address of its own). */
  readonly channel: Channel;
}

export interface HandlerReply {
  readonly header: Header;
  readonly payload?: readonly Uint8Array[];
  /** Called once the payload's bytes are no longer needed (sent, or the connection is gone): buffers may be reused. */
  readonly release?: () => void;
}

/** Rejecting with a TatamiError sends its code, message, remedy and info; the caller gets the same class back. */
export type Handler = (request: IncomingRequest) => Promise<HandlerReply> | HandlerReply;

/** One authenticated connection. Either side may call. */
export interface Channel {
  readonly remote: RemoteIdentity;
  readonly closed: boolean;
  call(method: string, header: Header, options: CallOptions): Promise<Reply>;
  onClose(callback: () => void): void;
  close(): void;
}

export type PeerState = 'up' | 'down' | 'unknown';

/** What riding news says about a peer; a hint, never a decision. */
export interface PeerInfo {
  /** Of our own connection to it. */
  readonly state: PeerState;
  /** What the nodes hold of it (membership); undefined while nothing was heard of it. */
  readonly member?: MemberState | undefined;
  /** When a message of it was last received; undefined: never. */
  readonly heardMs?: number | undefined;
  /** Smoothed round trip of small requests, ms; undefined before the first reply. */
  readonly rttMs: number | undefined;
  /** Our requests open at it. */
  readonly inFlightCount: number;
  /** The latest news it sent. */
  readonly news: News | undefined;
}

/** Rides on every request and reply (V-FIELD: block I/O keeps the node list fresh for free). */
export interface News {
  /** Epoch of the sender's catalog. */
  readonly catalogEpoch: number;
  /** Of its data disk, in thousandths; 0 for clients. */
  readonly fullPermille: number;
  /** Its garbage-collection generation (docs/decisions/0003-gc-generations.md); 0 for clients that know none. */
  readonly gcGeneration: number;
}

export interface Network {
  /** What nodes are held to be alive. Its members are those of the address book. */
  readonly members: MemberBoard;
  /** At most one handler a method; set before listen. */
  handle(method: string, handler: Handler): void;
  /** By node id through the address book; connects on demand, shares one connection. PeerUnreachableError if it cannot. */
  call(to: NodeId, method: string, header: Header, options: CallOptions): Promise<Reply>;
  /** Before a catalog is known: `join` and discovery. Closed by the caller. */
  dial(address: Address, timeoutMs: number): Promise<Channel>;
  /** Where nodes are; set by the catalog. Connections to addresses no longer in it are closed. */
  setAddresses(addresses: ReadonlyMap<NodeId, Address>): void;
  peer(id: NodeId): PeerInfo;
  /** State changes of peers in the address book. Returns the unsubscriber. */
  onPeerState(callback: (id: NodeId, state: PeerState) => void): () => void;
  /** Changes of what is held of a node. Returns the unsubscriber. */
  onMember(callback: (now: MemberView, before: MemberState | undefined) => void): () => void;
  /** Tells a node all that is known about the others once more, with the next message on our connection to it. */
  tellAll(node: NodeId): void;
  /** What we tell, and what we were told, with every message. */
  setNews(own: () => News, heard: (news: News, from: RemoteIdentity, channel: Channel) => void): void;
  /** Open channels that others made to us (clients and nodes). */
  incoming(): readonly Channel[];
  listen(address: Address): Promise<Address>;
  /** Ends all: pending calls reject, listeners and connections close. Idempotent. */
  close(): Promise<void>;
}
