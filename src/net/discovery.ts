/**
 * Finds primaries over UDP: a joiner sends Discovery by broadcast and to seed addresses; a node that is primary of a
 * wanted group answers DiscoveryAck, one for each such group. Hints only: what is found is then dialled, and proves itself.
 */
import type { Address, DatagramSocket, Env } from '../env.ts';
import { StateError } from '../errors.ts';
import type { GroupId } from '../ids.ts';
import { DiscoveryCore } from './discovery-core.ts';
import type { DiscoveryAck, DiscoveryStats } from './discovery-core.ts';
import { PACKET_NONCE_BYTES, groupHash } from './discovery-packets.ts';
import { parseAddress } from './address.ts';
import type { Log } from './log.ts';

export type { DiscoveryAck, DiscoveryStats } from './discovery-core.ts';

export interface DiscoveryOptions {
  readonly env: Pick<Env, 'clock' | 'random' | 'transport'>;
  /** The cluster key. */
  readonly key: Uint8Array;
  readonly clusterId: string;
  /** Own TCP address, told to others; empty for clients. A function where it is known only later. */
  readonly self: Address | (() => Address);
  /** Groups of which this node is primary now. */
  readonly groups: () => readonly GroupId[];
  readonly onFound?: (ack: DiscoveryAck) => void;
  readonly log?: Log;
}

export interface ProbeOptions {
  /** All of the probe; default 1 s. The question is sent three times in it: datagrams get lost. */
  readonly timeoutMs?: number;
  /** Port broadcasts go to; default: the one we are bound to. */
  readonly broadcastPort?: number;
}

export interface Discovery {
  /** Binds the UDP socket; resolves with its real address. */
  start(udpAddress: Address): Promise<Address>;
  /**
   * Asks for the primaries of `groups` (none = any group). Resolves, never rejects, with what was found: as soon as every
   * named group was answered for, or (without names) shortly after the last answer, or at the timeout.
   */
  probe(seeds: readonly Address[], groups: readonly GroupId[], options?: ProbeOptions): Promise<DiscoveryAck[]>;
  stats(): Readonly<DiscoveryStats>;
  close(): Promise<void>;
}

const PROBE_TIMEOUT_MS = 1_000;
const ASK_COUNT = 3;
/** Without named groups nobody knows how many will answer: this long after the last one it is enough. */
const SETTLE_MS = 150;

export function createDiscovery(options: DiscoveryOptions): Discovery {
  const { env, self } = options;
  const core = new DiscoveryCore({
    key: options.key,
    clusterId: options.clusterId,
    instance: randomU64(env),
    self: typeof self === 'function' ? self : () => self,
    groups: options.groups,
    nonce: () => env.random.bytes(PACKET_NONCE_BYTES),
  });
  let socket: DatagramSocket | undefined;
  let closed = false;
  const listeners = new Set<(ack: DiscoveryAck) => void>();
  const probes = new Set<() => void>();
  const wallMs = (): number => Number(env.clock.wallNs() / 1_000_000n);

  function receive(packet: Uint8Array, from: Address): void {
    if (closed) return;
    const oldBefore = core.stats.oldCount;
    const { answers, ack } = core.receive(packet, wallMs());
    for (const answer of answers) socket?.send(answer, from);
    // Said once, not for each packet: a flood must not fill the log.
    if (core.stats.oldCount > oldBefore && oldBefore === 0) {
      options.log?.(
        'warn',
        `a discovery packet from ${from} is more than 30 s off our clock: it was replayed, or the clocks differ (check NTP)`,
      );
    }
    if (ack === undefined) return;
    options.onFound?.(ack);
    for (const listener of [...listeners]) listener(ack);
  }

  function probe(
    seeds: readonly Address[],
    groups: readonly GroupId[],
    probeOptions: ProbeOptions = {},
  ): Promise<DiscoveryAck[]> {
    const bound = socket;
    if (bound === undefined || closed) return Promise.reject(new StateError('discovery is not started'));
    const timeoutMs = probeOptions.timeoutMs ?? PROBE_TIMEOUT_MS;
    const broadcasts = bound.broadcastAddresses(probeOptions.broadcastPort ?? parseAddress(bound.address).port);
    const missing = new Set(groups.map((group) => groupHash(group)));
    const found = new Map<string, DiscoveryAck>();
    return new Promise((resolve) => {
      let askTimer = env.clock.setTimer(0, askAgain);
      let settleTimer: { cancel(): void } | undefined;
      const endTimer = env.clock.setTimer(timeoutMs, finish);
      let askedCount = 0;
      function askAgain(): void {
        for (const to of new Set([...seeds, ...broadcasts])) {
          for (const packet of core.ask(groups, wallMs())) bound?.send(packet, to);
        }
        askedCount += 1;
        if (askedCount < ASK_COUNT) askTimer = env.clock.setTimer(timeoutMs / (ASK_COUNT + 1), askAgain);
      }
      function onAck(ack: DiscoveryAck): void {
        const key = `${ack.groupHash} ${ack.address}`;
        if (found.has(key)) return;
        found.set(key, ack);
        missing.delete(ack.groupHash);
        if (groups.length > 0) {
          if (missing.size === 0) finish();
          return;
        }
        settleTimer?.cancel();
        settleTimer = env.clock.setTimer(SETTLE_MS, finish);
      }
      function finish(): void {
        askTimer.cancel();
        settleTimer?.cancel();
        endTimer.cancel();
        listeners.delete(onAck);
        probes.delete(finish);
        resolve([...found.values()]);
      }
      listeners.add(onAck);
      probes.add(finish);
    });
  }

  return {
    async start(udpAddress) {
      if (socket !== undefined || closed) throw new StateError('discovery was started before');
      socket = await env.transport.datagram(udpAddress, { broadcast: true });
      socket.onMessage(receive);
      return socket.address;
    },
    probe,
    stats: () => ({ ...core.stats }),
    async close() {
      if (closed) return;
      closed = true;
      for (const finish of [...probes]) finish();
      await socket?.close();
    },
  };
}

function randomU64(env: Pick<Env, 'random'>): bigint {
  let value = 0n;
  for (const byte of env.random.bytes(8)) value = (value << 8n) | BigInt(byte);
  return value;
}
