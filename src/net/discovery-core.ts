/** Discovery's decisions. Pure: packets and times in, packets out. The driver is discovery.ts. */
import type { Address } from '../env.ts';
import type { GroupId } from '../ids.ts';
import { GROUPS_PER_PACKET_MAX, PacketCodec, groupHash } from './discovery-packets.ts';
import type { DiscoveryAckPacket, DiscoveryPacket, PacketStamp } from './discovery-packets.ts';
import { ReplayWindow } from './replay-window.ts';

/** Packets by what became of them. */
export interface DiscoveryStats {
  receivedCount: number;
  answeredCount: number;
  malformedCount: number;
  newerCount: number;
  otherClusterCount: number;
  wrongKeyCount: number;
  /** Time stamp more than 30 s from ours: an old packet, or clocks that differ. */
  oldCount: number;
  replayedCount: number;
  /** Acks to what we did not ask. */
  strayCount: number;
}

export interface DiscoveryAck {
  /** Where the primary listens (TCP). */
  readonly address: Address;
  readonly groupHash: bigint;
  /** The group's name, if we asked for it by name. */
  readonly group: GroupId | undefined;
}

export interface DiscoveryCoreOptions {
  readonly key: Uint8Array;
  readonly clusterId: string;
  readonly instance: bigint;
  /** Own TCP address; empty if there is none. */
  readonly self: () => Address;
  /** Groups of which this node is primary. */
  readonly groups: () => readonly GroupId[];
  readonly nonce: () => Uint8Array;
}

/** Nonces of our latest questions, so that acks to others' are not believed. */
const QUESTIONS_MAX_COUNT = 1_024;

export class DiscoveryCore {
  readonly #options: DiscoveryCoreOptions;
  readonly #codec: PacketCodec;
  readonly #window = new ReplayWindow();
  readonly #questions = new Map<string, ReadonlyMap<bigint, GroupId>>();
  #counter = 0n;
  readonly stats: DiscoveryStats = {
    receivedCount: 0,
    answeredCount: 0,
    malformedCount: 0,
    newerCount: 0,
    otherClusterCount: 0,
    wrongKeyCount: 0,
    oldCount: 0,
    replayedCount: 0,
    strayCount: 0,
  };

  constructor(options: DiscoveryCoreOptions) {
    this.#options = options;
    this.#codec = new PacketCodec(options.key, options.clusterId);
  }

  /** Packets that ask for `groups` (none = any). Made anew for every destination: a packet is accepted once. */
  ask(groups: readonly GroupId[], nowWallMs: number): Uint8Array[] {
    const byHash = new Map(groups.map((group) => [groupHash(group), group]));
    const hashes = [...byHash.keys()];
    const packets: Uint8Array[] = [];
    let from = 0;
    do {
      const stamp = this.#stamp(nowWallMs);
      this.#remember(stamp.nonce, byHash);
      const groupHashes = hashes.slice(from, from + GROUPS_PER_PACKET_MAX);
      packets.push(this.#codec.encode({ type: 'discovery', address: this.#options.self(), groupHashes, ...stamp }));
      from += GROUPS_PER_PACKET_MAX;
    } while (from < hashes.length);
    return packets;
  }

  /** What to send back to where the packet came from, and what was learned from it. */
  receive(
    bytes: Uint8Array,
    nowWallMs: number,
  ): { readonly answers: readonly Uint8Array[]; readonly ack?: DiscoveryAck } {
    const nothing = { answers: [] };
    this.stats.receivedCount += 1;
    const packet = this.#codec.decode(bytes);
    if (typeof packet === 'string') {
      if (packet === 'malformed') this.stats.malformedCount += 1;
      else if (packet === 'newer') this.stats.newerCount += 1;
      else if (packet === 'otherCluster') this.stats.otherClusterCount += 1;
      else this.stats.wrongKeyCount += 1;
      return nothing;
    }
    // A broadcast comes back to its sender.
    if (packet.instance === this.#options.instance) return nothing;
    const freshness = this.#window.check(packet, nowWallMs);
    if (freshness !== 'fresh') {
      if (freshness === 'old') this.stats.oldCount += 1;
      else this.stats.replayedCount += 1;
      return nothing;
    }
    return packet.type === 'discovery' ? { answers: this.#answer(packet, nowWallMs) } : this.#learn(packet);
  }

  #answer(question: DiscoveryPacket, nowWallMs: number): Uint8Array[] {
    const address = this.#options.self();
    if (address === '') return [];
    const wanted = new Set(question.groupHashes);
    const answers: Uint8Array[] = [];
    for (const group of this.#options.groups()) {
      const hash = groupHash(group);
      if (wanted.size > 0 && !wanted.has(hash)) continue;
      answers.push(
        this.#codec.encode({
          type: 'ack',
          address,
          groupHash: hash,
          answers: question.nonce,
          ...this.#stamp(nowWallMs),
        }),
      );
    }
    this.stats.answeredCount += answers.length;
    return answers;
  }

  #learn(packet: DiscoveryAckPacket): { readonly answers: readonly Uint8Array[]; readonly ack?: DiscoveryAck } {
    const question = this.#questions.get(hex(packet.answers));
    if (question === undefined) {
      this.stats.strayCount += 1;
      return { answers: [] };
    }
    const group = question.get(packet.groupHash);
    return { answers: [], ack: { address: packet.address, groupHash: packet.groupHash, group } };
  }

  #stamp(nowWallMs: number): PacketStamp {
    this.#counter += 1n;
    return {
      instance: this.#options.instance,
      wallMs: nowWallMs,
      counter: this.#counter,
      nonce: this.#options.nonce(),
    };
  }

  #remember(nonce: Uint8Array, byHash: ReadonlyMap<bigint, GroupId>): void {
    if (this.#questions.size >= QUESTIONS_MAX_COUNT) {
      const [oldest] = this.#questions.keys();
      if (oldest !== undefined) this.#questions.delete(oldest);
    }
    this.#questions.set(hex(nonce), byHash);
  }
}

function hex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}
