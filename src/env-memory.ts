/**
 * A world in memory behind src/env.ts: a disk that forgets, a network of one process. `tatamifs/testing` and the
 * simulator (test/sim) are built of it; unit tests use its parts.
 */
import type { Clock, Disk, Env, Random, Transport } from './env.ts';
import { MemoryDisk } from './env-memory/disk.ts';
import { MemoryNetwork } from './env-memory/network.ts';

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
  };
}
