/**
 * Mutual challenge-response over the 32-byte cluster key. Pure. Both sides say hello {version, cluster, nonce, who I
 * am}; then each proves that it has the key by an HMAC-SHA256 over both hellos, byte for byte, and its own role:
 *
 *   initiator                     responder
 *   HELLO ----------------------->
 *         <----------------------- HELLO, PROOF
 *   PROOF ----------------------->
 *
 * The role in the MAC (and a check that the nonces differ) keeps a proof from being reflected to its maker; the hellos in
 * it keep identities and versions from being changed on the way. It authenticates the two ends, not the bytes that
 * follow: off the loopback interface TLS protects those (transport-node.ts).
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { Buffer } from 'node:buffer';
import { AuthError, FormatError, OverloadedError, PeerUnreachableError, StateError } from '../errors.ts';
import type { TatamiError } from '../errors.ts';
import type { NodeId } from '../ids.ts';
import { FrameType, plainFrame } from './frames.ts';
import { formatAddress, isWildcardHost, parseAddress } from './address.ts';
import type { RemoteIdentity } from './types.ts';

/**
 * Of the handshake and of the messages and log entries that follow it: grows with each change of these that others could not
 * read. Before the first release sides of two versions refuse each other.
 */
export const PROTOCOL_VERSION = 3;
export const NONCE_BYTES = 32;
export const CLUSTER_KEY_BYTES = 32;
const CLUSTER_HASH_BYTES = 16;
const PROOF_BYTES = 32;
const SHORT_MAX_BYTES = 255;
const LABEL_MAX_BYTES = 1024;
const REASON_MAX_BYTES = 1000;

export type Role = 'initiator' | 'responder';

/** What a side says of itself. */
export interface OwnIdentity {
  readonly kind: 'node' | 'client';
  readonly nodeId?: NodeId;
  readonly instanceId: string;
  /** Where it listens; empty if nowhere. */
  readonly address: string;
  readonly label: string;
}

export interface HandshakeOptions {
  readonly role: Role;
  readonly key: Uint8Array;
  /** Empty: not known yet (a joiner that has only the key). */
  readonly clusterId: string;
  /** {@link NONCE_BYTES} of chance. */
  readonly nonce: Uint8Array;
  readonly self: OwnIdentity;
  /** Of the connection's other end, for nodes that do not say or cannot know their address. */
  readonly remoteAddress: string;
}

export interface HandshakeStep {
  readonly send: readonly Uint8Array[];
  /** Set when the handshake is through: requests may follow. */
  readonly done?: RemoteIdentity;
}

interface Hello {
  readonly bytes: Uint8Array;
  readonly clusterHash: Uint8Array;
  readonly nonce: Uint8Array;
  readonly identity: OwnIdentity;
}

/** First 16 bytes of a hash of the cluster's id, so that the id itself is not shown to strangers; zeros if not known. */
export function clusterHash(clusterId: string): Uint8Array {
  if (clusterId === '') return new Uint8Array(CLUSTER_HASH_BYTES);
  return new Uint8Array(
    createHash('sha256').update('tatamifs cluster\0').update(clusterId).digest().subarray(0, CLUSTER_HASH_BYTES),
  );
}

export class Handshake {
  readonly #options: HandshakeOptions;
  readonly #ownHello: Uint8Array;
  #peer: Hello | undefined;
  #done = false;

  constructor(options: HandshakeOptions) {
    if (options.key.length !== CLUSTER_KEY_BYTES) throw new StateError(`a cluster key has ${CLUSTER_KEY_BYTES} bytes`);
    if (options.nonce.length !== NONCE_BYTES) throw new StateError(`a nonce has ${NONCE_BYTES} bytes`);
    this.#options = options;
    this.#ownHello = encodeHello(options.clusterId, options.nonce, options.self);
  }

  /** What to send first. */
  start(): HandshakeStep {
    return { send: this.#options.role === 'initiator' ? [plainFrame(FrameType.hello, this.#ownHello)] : [] };
  }

  /** Throws AuthError or FormatError: tell the peer by {@link refuseFrame} (unless it refused us), then close. */
  receive(type: FrameType, header: Uint8Array): HandshakeStep {
    if (type === FrameType.refuse) throw decodeRefusal(header, this.#options.remoteAddress);
    if (this.#done) throw new FormatError('the handshake is already through');
    if (type === FrameType.hello && this.#peer === undefined) return this.#onHello(header);
    if (type === FrameType.proof && this.#peer !== undefined) return this.#onProof(this.#peer, header);
    throw new FormatError('a handshake message came out of order');
  }

  #onHello(header: Uint8Array): HandshakeStep {
    const peer = decodeHello(header);
    const { clusterId, nonce, role, remoteAddress } = this.#options;
    const own = clusterHash(clusterId);
    if (!isZero(own) && !isZero(peer.clusterHash) && !equal(own, peer.clusterHash)) {
      throw new AuthError(`${remoteAddress} belongs to another cluster`, {
        remedy: 'Check the address, and that the data directory and the key file are of the cluster you mean.',
      });
    }
    if (equal(peer.nonce, nonce)) throw new AuthError(`${remoteAddress} sent our own hello back`);
    this.#peer = peer;
    if (role === 'initiator') return { send: [] };
    return { send: [plainFrame(FrameType.hello, this.#ownHello), this.#proofFrame(peer)] };
  }

  #onProof(peer: Hello, proof: Uint8Array): HandshakeStep {
    const { role, remoteAddress } = this.#options;
    const wanted = this.#prove(peer, role === 'initiator' ? 'responder' : 'initiator');
    if (proof.length !== PROOF_BYTES || !timingSafeEqual(wanted, proof)) {
      throw new AuthError(`${remoteAddress} has another cluster key`, {
        remedy: 'Use the key file of that cluster (--key-file): it must be the same 32 bytes on every machine.',
      });
    }
    this.#done = true;
    const { identity } = peer;
    const done: RemoteIdentity = {
      kind: identity.kind,
      ...(identity.nodeId === undefined ? {} : { nodeId: identity.nodeId }),
      instanceId: identity.instanceId,
      address: reachableAddress(identity.address, remoteAddress),
      label: identity.label,
    };
    return { send: role === 'initiator' ? [this.#proofFrame(peer)] : [], done };
  }

  #proofFrame(peer: Hello): Uint8Array {
    return plainFrame(FrameType.proof, this.#prove(peer, this.#options.role));
  }

  #prove(peer: Hello, prover: Role): Uint8Array {
    const [first, second] =
      this.#options.role === 'initiator' ? [this.#ownHello, peer.bytes] : [peer.bytes, this.#ownHello];
    const lengths = Buffer.alloc(8);
    lengths.writeUInt32LE(first.length, 0);
    lengths.writeUInt32LE(second.length, 4);
    return createHmac('sha256', this.#options.key)
      .update(`tatamifs handshake ${PROTOCOL_VERSION} ${prover}\0`)
      .update(lengths)
      .update(first)
      .update(second)
      .digest();
  }
}

/** Why a peer is not let in: it is wrong, or speaks another version; or it may try again: too many others, or about to end. */
const Refusal = { auth: 1, format: 2, overloaded: 3, closing: 4 } as const;

function refusalOf(error: TatamiError): number {
  if (error instanceof FormatError) return Refusal.format;
  if (error instanceof OverloadedError) return Refusal.overloaded;
  return error instanceof PeerUnreachableError ? Refusal.closing : Refusal.auth;
}

/** Tells the peer in plain text why it is not let in. */
export function refuseFrame(error: TatamiError): Uint8Array {
  return plainFrame(
    FrameType.refuse,
    concat([
      Uint8Array.of(refusalOf(error)),
      shortText(error.message, REASON_MAX_BYTES),
      shortText(error.remedy ?? '', REASON_MAX_BYTES),
    ]),
  );
}

function decodeRefusal(bytes: Uint8Array, remoteAddress: string): TatamiError {
  const reader = new Reader(bytes);
  const code = reader.bytes(1)[0];
  const message = `${remoteAddress} refused the connection: ${reader.text(REASON_MAX_BYTES)}`;
  const remedy = reader.text(REASON_MAX_BYTES);
  const details = remedy === '' ? {} : { remedy };
  if (code === Refusal.format) return new FormatError(message, details);
  if (code === Refusal.overloaded) return new OverloadedError(message, details);
  // It is a node that stops while we connect, as one does when all are restarted.
  if (code === Refusal.closing) return new PeerUnreachableError(message, details);
  return new AuthError(message, details);
}

function encodeHello(clusterId: string, nonce: Uint8Array, self: OwnIdentity): Uint8Array {
  return concat([
    Uint8Array.of(PROTOCOL_VERSION & 0xff, PROTOCOL_VERSION >> 8, self.kind === 'node' ? 1 : 2),
    clusterHash(clusterId),
    nonce,
    shortText(self.nodeId ?? '', SHORT_MAX_BYTES),
    shortText(self.instanceId, SHORT_MAX_BYTES),
    shortText(self.address, SHORT_MAX_BYTES),
    shortText(self.label, LABEL_MAX_BYTES),
  ]);
}

function decodeHello(bytes: Uint8Array): Hello {
  const reader = new Reader(bytes);
  const version = reader.u16();
  if (version !== PROTOCOL_VERSION) {
    throw new FormatError(`the peer speaks protocol version ${version}, this program ${PROTOCOL_VERSION}`, {
      remedy: 'Upgrade the older of the two: run the same version of tatamifs on all machines.',
      info: { version, supported: PROTOCOL_VERSION },
    });
  }
  const kind = reader.bytes(1)[0];
  const hash = reader.bytes(CLUSTER_HASH_BYTES).slice();
  const nonce = reader.bytes(NONCE_BYTES).slice();
  const nodeId = reader.text(SHORT_MAX_BYTES);
  const instanceId = reader.text(SHORT_MAX_BYTES);
  const address = reader.text(SHORT_MAX_BYTES);
  const label = reader.text(LABEL_MAX_BYTES);
  const isNode = kind === 1;
  if (!isNode && kind !== 2) throw new FormatError('a hello of neither a node nor a client');
  if (isNode ? !/^[a-z0-9-]{1,64}$/.test(nodeId) : nodeId !== '')
    throw new FormatError('a hello with an invalid node name');
  if (!/^[0-9a-f]{1,64}$/.test(instanceId)) throw new FormatError('a hello with an invalid instance id');
  if (address !== '') parseHelloAddress(address);
  return {
    bytes: bytes.slice(),
    clusterHash: hash,
    nonce,
    identity: {
      kind: isNode ? 'node' : 'client',
      ...(isNode ? { nodeId: nodeId as NodeId } : {}),
      instanceId,
      address,
      label,
    },
  };
}

function parseHelloAddress(address: string): void {
  try {
    parseAddress(address);
  } catch (error) {
    throw new FormatError('a hello with an invalid address', { cause: error });
  }
}

/** Where to reach the peer: what it says, with the host it came from in place of "every interface". */
function reachableAddress(said: string, seen: string): string {
  if (said === '') return seen;
  const { host, port } = parseAddress(said);
  if (!isWildcardHost(host)) return said;
  try {
    return formatAddress(parseAddress(seen).host, port);
  } catch {
    return said;
  }
}

/** Bounds-checked reading of untrusted bytes. */
class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  bytes(count: number): Uint8Array {
    if (this.#at + count > this.#bytes.length) throw new FormatError('a handshake message is too short');
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  u16(): number {
    const [low = 0, high = 0] = this.bytes(2);
    return low | (high << 8);
  }

  /** UTF-8 for people's eyes: control characters, which could rule a terminal, become spaces. */
  text(maxBytes: number): string {
    const length = this.u16();
    if (length > maxBytes) throw new FormatError('a text in a handshake message is too long');
    return Buffer.from(this.bytes(length))
      .toString('utf8')
      .replace(/\p{Cc}/gu, ' ');
  }
}

/** u16 length and UTF-8 bytes, cut to `maxBytes`. */
function shortText(text: string, maxBytes: number): Uint8Array {
  let bytes: Uint8Array = Buffer.from(text, 'utf8');
  if (bytes.length > maxBytes) bytes = bytes.subarray(0, maxBytes);
  return concat([Uint8Array.of(bytes.length & 0xff, bytes.length >> 8), bytes]);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}
