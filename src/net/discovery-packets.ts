/**
 * Discovery and DiscoveryAck as UDP packets. Pure. Fixed binary, layout in docs/formats.md: nothing of a packet is
 * believed before its HMAC-SHA256 is right, and nothing is answered that is old, seen before or of another cluster.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { Buffer } from 'node:buffer';
import type { Address } from '../env.ts';
import { StateError } from '../errors.ts';
import type { GroupId } from '../ids.ts';
import { DATAGRAM_MAX_BYTES } from '../limits.ts';
import { parseAddress } from './address.ts';
import { xxh64 } from '../xxhash.ts';
import { clusterHash } from './handshake.ts';

export const DISCOVERY_VERSION = 1;
/** "TTMD" as little-endian u32. */
const MAGIC = 0x444d5454;
const FIXED_BYTES = 64;
const MAC_BYTES = 32;
const ADDRESS_MAX_BYTES = 255;
const TYPE_DISCOVERY = 1;
const TYPE_ACK = 2;
export const PACKET_NONCE_BYTES = 16;
/** Hashes of wanted groups that fit one packet beside the longest address; for more, send several packets. */
export const GROUPS_PER_PACKET_MAX = Math.floor(
  (DATAGRAM_MAX_BYTES - FIXED_BYTES - MAC_BYTES - 1 - ADDRESS_MAX_BYTES - 2) / 8,
);

/** What every packet says about its sending. */
export interface PacketStamp {
  /** Random, of the sending process. */
  readonly instance: bigint;
  /** The sender's wall clock. */
  readonly wallMs: number;
  /** Grows by one with every packet of the instance. */
  readonly counter: bigint;
  readonly nonce: Uint8Array;
}

/** A joiner asks: who is primary of these groups? */
export interface DiscoveryPacket extends PacketStamp {
  readonly type: 'discovery';
  /** Where the asker listens; empty for clients. */
  readonly address: Address;
  /** 64-bit hashes of the wanted groups' names; empty: of any. */
  readonly groupHashes: readonly bigint[];
}

/** A primary answers, once for each wanted group it serves. */
export interface DiscoveryAckPacket extends PacketStamp {
  readonly type: 'ack';
  readonly address: Address;
  readonly groupHash: bigint;
  /** Nonce of the Discovery that it answers. */
  readonly answers: Uint8Array;
}

export type Packet = DiscoveryPacket | DiscoveryAckPacket;

/** Why a packet is not looked at any further. */
export type PacketFault = 'malformed' | 'newer' | 'otherCluster' | 'wrongKey';

/** Group names go as hashes so that any number of them, however long, fits a packet. */
export function groupHash(group: GroupId): bigint {
  return xxh64(Buffer.from(group, 'utf8'));
}

/** Codec for one cluster: its key and id do not change. */
export class PacketCodec {
  readonly #key: Uint8Array;
  readonly #cluster: Uint8Array;

  constructor(clusterKey: Uint8Array, clusterId: string) {
    this.#key = createHmac('sha256', clusterKey).update('tatamifs discovery 1').digest();
    this.#cluster = clusterHash(clusterId);
  }

  encode(packet: Packet): Uint8Array {
    const address = Buffer.from(packet.address, 'utf8');
    if (address.length > ADDRESS_MAX_BYTES) throw new StateError('an address is too long for a discovery packet');
    const tailBytes = packet.type === 'discovery' ? 2 + 8 * packet.groupHashes.length : 8 + PACKET_NONCE_BYTES;
    const bytes = Buffer.alloc(FIXED_BYTES + 1 + address.length + tailBytes + MAC_BYTES);
    if (bytes.length > DATAGRAM_MAX_BYTES) throw new StateError(`a discovery packet of ${bytes.length} bytes`);
    bytes.writeUInt32LE(MAGIC, 0);
    bytes.writeUInt8(DISCOVERY_VERSION, 4);
    bytes.writeUInt8(packet.type === 'discovery' ? TYPE_DISCOVERY : TYPE_ACK, 5);
    bytes.set(this.#cluster, 8);
    bytes.writeBigUInt64LE(packet.instance, 24);
    bytes.writeBigUInt64LE(BigInt(Math.floor(packet.wallMs)), 32);
    bytes.writeBigUInt64LE(packet.counter, 40);
    bytes.set(packet.nonce.subarray(0, PACKET_NONCE_BYTES), 48);
    bytes.writeUInt8(address.length, FIXED_BYTES);
    bytes.set(address, FIXED_BYTES + 1);
    let at = FIXED_BYTES + 1 + address.length;
    if (packet.type === 'discovery') {
      at = bytes.writeUInt16LE(packet.groupHashes.length, at);
      for (const hash of packet.groupHashes) at = bytes.writeBigUInt64LE(hash, at);
    } else {
      at = bytes.writeBigUInt64LE(packet.groupHash, at);
      bytes.set(packet.answers.subarray(0, PACKET_NONCE_BYTES), at);
      at += PACKET_NONCE_BYTES;
    }
    bytes.set(this.#mac(bytes.subarray(0, at)), at);
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  decode(input: Uint8Array): Packet | PacketFault {
    if (input.length < FIXED_BYTES + 1 + MAC_BYTES || input.length > DATAGRAM_MAX_BYTES) return 'malformed';
    const bytes = Buffer.from(input.buffer, input.byteOffset, input.length);
    if (bytes.readUInt32LE(0) !== MAGIC) return 'malformed';
    if (bytes.readUInt8(4) > DISCOVERY_VERSION) return 'newer';
    if (!bytes.subarray(8, 24).equals(this.#cluster)) return 'otherCluster';
    const end = bytes.length - MAC_BYTES;
    if (!timingSafeEqual(this.#mac(bytes.subarray(0, end)), bytes.subarray(end))) return 'wrongKey';
    const addressEnd = FIXED_BYTES + 1 + bytes.readUInt8(FIXED_BYTES);
    if (addressEnd > end) return 'malformed';
    const address = bytes.toString('utf8', FIXED_BYTES + 1, addressEnd);
    const stamp: PacketStamp = {
      instance: bytes.readBigUInt64LE(24),
      wallMs: Number(bytes.readBigUInt64LE(32)),
      counter: bytes.readBigUInt64LE(40),
      nonce: new Uint8Array(bytes.subarray(48, 48 + PACKET_NONCE_BYTES)),
    };
    const type = bytes.readUInt8(5);
    if (type === TYPE_DISCOVERY) return decodeDiscovery(bytes.subarray(addressEnd, end), address, stamp);
    if (type === TYPE_ACK) return decodeAck(bytes.subarray(addressEnd, end), address, stamp);
    return 'malformed';
  }

  #mac(bytes: Uint8Array): Buffer {
    return createHmac('sha256', this.#key).update(bytes).digest();
  }
}

function decodeDiscovery(tail: Buffer, address: string, stamp: PacketStamp): Packet | PacketFault {
  if (tail.length < 2 || (address !== '' && !isAddress(address))) return 'malformed';
  const count = tail.readUInt16LE(0);
  if (tail.length !== 2 + 8 * count) return 'malformed';
  const groupHashes: bigint[] = [];
  for (let i = 0; i < count; i += 1) groupHashes.push(tail.readBigUInt64LE(2 + 8 * i));
  return { type: 'discovery', address, groupHashes, ...stamp };
}

function decodeAck(tail: Buffer, address: string, stamp: PacketStamp): Packet | PacketFault {
  if (tail.length !== 8 + PACKET_NONCE_BYTES || !isAddress(address)) return 'malformed';
  return {
    type: 'ack',
    address,
    groupHash: tail.readBigUInt64LE(0),
    answers: new Uint8Array(tail.subarray(8)),
    ...stamp,
  };
}

function isAddress(text: string): boolean {
  try {
    parseAddress(text);
    return true;
  } catch {
    return false;
  }
}
