/**
 * A world in memory behind src/env.ts: a disk that forgets, a network of one process. `tatamifs/testing` and the
 * simulator (test/sim) are built of it; unit tests use its parts.
 */
import type { Clock, Disk, Env, Random, Transport } from './env.ts';
import { MemoryDisk } from './env-memory/disk.ts';
import { MemoryNetwork } from './env-memory/network.ts';
import { atNextTurn, NodeClock, nodeRandom } from './env-node.ts';

export { MemoryDisk } from './env-memory/disk.ts';
export type { CrashOptions, DiskOp, Fault, MemoryDiskOptions } from './env-memory/disk.ts';
export { MemoryKv } from './env-memory/kv.ts';
export { MemoryNetwork } from './env-memory/network.ts';
export type { Carrier, MemoryNetworkOptions, Parcel } from './env-memory/network.ts';

export interface MemoryEnvOptions {
  /** Time and chance are not made up here: take them from a real env or from a simulated one. */
  readonly clock: Clock;
  readonly random: Random;
  /** Default: a new, empty one. */
  readonly disk?: Disk;
  /** Default: a network with nobody else in it. */
  readonly transport?: Transport;
}

export function createMemoryEnv({ clock, random, disk, transport }: MemoryEnvOptions): Env {
  return {
    clock,
    random,
    disk: disk ?? new MemoryDisk(),
    transport: transport ?? new MemoryNetwork({ clock }).transport('127.0.0.1'),
    // Its machine is this process: what was in memory is gone with it.
    bootId: 'memory',
  };
}

export interface MemoryWorld {
  readonly network: MemoryNetwork;
  /** The world as a host sees it: its own disk, real time. The same env for the same name. */
  envOf(host: string): Env;
  /** The disk of that host. */
  diskOf(host: string): MemoryDisk;
}

/** Hosts in one process and in real time, connected by memory. */
export function createMemoryWorld(): MemoryWorld {
  const clock = new NodeClock();
  const network = new MemoryNetwork({ clock, carrier: (_parcel, deliver) => atNextTurn(deliver) });
  const hosts = new Map<string, { disk: MemoryDisk; env: Env }>();
  const hostOf = (host: string): { disk: MemoryDisk; env: Env } => {
    let made = hosts.get(host);
    if (!made) {
      const disk = new MemoryDisk();
      made = { disk, env: createMemoryEnv({ clock, random: nodeRandom, disk, transport: network.transport(host) }) };
      hosts.set(host, made);
    }
    return made;
  };
  return { network, envOf: (host) => hostOf(host).env, diskOf: (host) => hostOf(host).disk };
}
