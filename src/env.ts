/**
 * The only door to the outside: clock, chance, disk, sockets. Two worlds stand behind it: the real one
 * (env-node.ts) and the simulated one (test/sim), where a whole cluster runs in one process, in virtual time, from
 * one seed, on disks that forget what was not synced. Nothing else may call Date.now, Math.random, setTimeout,
 * node:fs or node:net (scripts/purity.js checks it). Modelled on LevelDB's Env.
 */
import type { CancelSignal } from './cancel.ts';

export interface Env {
  readonly clock: Clock;
  readonly random: Random;
  readonly disk: Disk;
  readonly transport: Transport;
  /** Names this run of the machine: another one after a power failure or reboot, the same for all processes until then. */
  readonly bootId: string;
  /** Whether a host (an address, or `localhost`) is this machine. Absent: not known, so no. */
  readonly isOwnHost?: (host: string) => boolean;
  /**
   * Keeps the process alive until the returned function is called: somebody awaits what may hang on timers alone.
   * Absent where there is no process of its own.
   */
  readonly hold?: () => () => void;
}

// Time

export interface Timer {
  /** Idempotent. After it the callback does not run. */
  cancel(): void;
}

export interface Clock {
  /** Milliseconds (with fraction) since an arbitrary instant; never goes back. For durations, leases, deadlines. */
  monotonicMs(): number;
  /** Nanoseconds since the Unix epoch. Only for time stamps shown to people and stored in inodes. */
  wallNs(): bigint;
  /** Runs `callback` once after at least `delayMs`. Does not keep the process alive by itself. */
  setTimer(delayMs: number, callback: () => void): Timer;
  /** Resolves after `delayMs` (which does not keep the process alive either); rejects with CancelledError as soon as `signal` fires. */
  sleep(delayMs: number, signal?: CancelSignal): Promise<void>;
}

/** Milliseconds since the Unix epoch, whole. As {@link Clock.wallNs}: only to be shown. */
export function wallMs(clock: Pick<Clock, 'wallNs'>): number {
  return Number(clock.wallNs() / 1_000_000n);
}

export interface Random {
  /** `length` bytes fit for keys and nonces (in simulation: from the seed). */
  bytes(length: number): Uint8Array;
  /** Uniform integer, 0 <= n < bound, bound <= 2^32. For jitter and choice. */
  below(bound: number): number;
}

// Disk

export type OpenMode = 'read' | 'direct' | 'write' | 'create' | 'exclusive';

/** What direct reads are multiples of: the largest sector of a disk. */
export const DIRECT_BYTES = 4096;

/** Errors of a Disk are Node's own: `Error` with `code` ENOENT, EEXIST, ENOSPC, EIO, ... */
export interface Disk {
  /**
   * - `read`: must exist; `write`: read and write, must exist; `create`: read and write, made if missing;
   *   `exclusive`: as create, EEXIST if it exists.
   * - `direct`: as `read`, past the system's page cache: reads have positions, lengths and memory of whole multiples of
   *   {@link DIRECT_BYTES}. EINVAL, here or at a read, where the file system or the device cannot do that.
   */
  open(path: string, mode: OpenMode): Promise<DiskFile>;
  /** Whole content. */
  readFile(path: string): Promise<Uint8Array>;
  /** Writes `path.tmp`, syncs it, renames it over `path`, syncs the directory: after it, old or new, never a mixture. */
  writeFileAtomic(path: string, data: Uint8Array, mode?: number): Promise<void>;
  /** Names in the directory, sorted by code unit. */
  readdir(path: string): Promise<string[]>;
  exists(path: string): Promise<boolean>;
  /** Permission bits of a file. Absent where files have none. */
  permissions?(path: string): Promise<number>;
  /** Makes all missing directories. `mode`: permission bits of those that are made, where there are any. */
  mkdir(path: string, mode?: number): Promise<void>;
  unlink(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Removes a file or a tree; nothing to do if missing. */
  remove(path: string): Promise<void>;
  /** Makes the names in a directory durable. */
  syncDir(path: string): Promise<void>;
  /** Of the filesystem that holds `path`, in bytes, as an unprivileged user sees it. Equal `diskId`: the same one. */
  space(path: string): Promise<{ totalBytes: number; freeBytes: number; diskId: string }>;
  /**
   * Takes an exclusive lock that dies with the process. Throws an error with code EBUSY (and `info.pid` if known) when
   * another process has it.
   */
  lock(path: string): Promise<{ release(): Promise<void> }>;
  /** Opens (and makes) a sorted key-value store in directory `path`. */
  openKv(path: string, options?: KvOptions): Promise<Kv>;
  /**
   * Whether the files of such a store, closed or open, are what was written, as far as checksums tell. Reads all of them
   * unless they have more than `maxBytes`. What is being written just now can look damaged: look again before believing it.
   * Absent where a store has no files.
   */
  checkKv?(path: string, maxBytes: number): Promise<KvCheck>;
}

export interface KvCheck {
  /** Of all files. */
  readonly bytes: number;
  /** False: they were too large. */
  readonly looked: boolean;
  readonly damage?: { readonly file: string; readonly fileBytes: number; readonly fault: string };
}

export interface DiskFile {
  /** Fills `buffer` from `position`; returns the byte count, less than asked only at the end of the file. */
  read(buffer: Uint8Array, position: number): Promise<number>;
  /** Writes all of the buffers, one after the other, from `position`. */
  write(buffers: readonly Uint8Array[], position: number): Promise<void>;
  /**
   * As write, for data that nobody reads soon: long ones go past the system's page cache where that can be. One at a time.
   * Absent where there is no such thing.
   */
  writePast?(buffers: readonly Uint8Array[], position: number): Promise<void>;
  /**
   * As write, before it returns: for a few KiB that somebody waits for. They go into the page cache in microseconds,
   * where a hop to a thread and back takes a hundred. Absent where there is no such thing.
   */
  writeNow?(data: Uint8Array, position: number): void;
  /** Makes everything that this file was given before the call durable. */
  datasync(): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  sizeBytes(): Promise<number>;
  close(): Promise<void>;
}

export interface KvOptions {
  /** Block cache, bytes. */
  readonly cacheBytes?: number;
  /** Memtable, bytes. */
  readonly writeBufferBytes?: number;
  /** Default true. `checkKv` can only look into stores that were always opened without. */
  readonly compression?: boolean;
}

export type KvOp =
  { readonly key: Uint8Array; readonly value: Uint8Array } | { readonly key: Uint8Array; readonly value?: undefined };

/**
 * A sorted byte-string map (LevelDB in the real world). Keys sort by unsigned bytes. CorruptionError where the store
 * notices that it is damaged; it does not always notice.
 */
export interface Kv {
  /** Undefined if absent. Synchronous on purpose: a cached point read takes microseconds, a hop to a thread ten times that. */
  get(key: Uint8Array): Uint8Array | undefined;
  /** Atomic. With `sync` it and all batches before it are durable on return; without, they survive only the process. */
  batch(ops: readonly KvOp[], options: { sync: boolean }): Promise<void>;
  /** Ascending (or descending with `reverse`) over gte <= key < lt, from one consistent snapshot. */
  scan(range: KvRange): AsyncIterable<KvRow>;
  /** As `scan`, some rows at a time: a promise for each costs more than the row. No page is empty; keys and values may be Buffers. */
  scanPages(range: KvRange): AsyncIterable<readonly KvRow[]>;
  close(): Promise<void>;
}

export interface KvRange {
  readonly gte: Uint8Array;
  readonly lt: Uint8Array;
  readonly limit?: number;
  readonly reverse?: boolean;
}

export type KvRow = readonly [key: Uint8Array, value: Uint8Array];

// Network

/** `host:port`; IPv6 hosts in brackets. */
export type Address = string;

export interface Transport {
  /** Port 0 picks a free one; the listener's `address` has the real one. EADDRINUSE as from Node. */
  listen(address: Address, onConnection: (connection: Connection) => void): Promise<Listener>;
  /** Rejects with PeerUnreachableError or TimeoutError. */
  connect(address: Address, timeoutMs: number): Promise<Connection>;
  /** Opens a UDP socket bound to `address`. */
  datagram(address: Address, options: { broadcast: boolean }): Promise<DatagramSocket>;
}

export interface Listener {
  readonly address: Address;
  close(): Promise<void>;
}

/** A reliable ordered byte stream. */
export interface Connection {
  readonly remoteAddress: Address;
  /** Queues the bytes, which must not change until they are sent. Never throws: a broken connection shows in onClose. */
  write(chunks: readonly Uint8Array[]): void;
  /** Bytes queued and not yet taken by the system. */
  readonly queuedBytes: number;
  /**
   * Sets the receiver. `chunk` is valid only during the call: copy what is kept. Delivery starts when this is set.
   * `place`, which a connection may ignore, is asked before each read for memory to read into, so that bytes need not be
   * copied there afterwards. Memory once given is the connection's until the next chunk, whatever happens meanwhile.
   */
  onData(receive: (chunk: Uint8Array) => void, place?: () => Uint8Array | undefined): void;
  /** Called whenever queuedBytes falls below half of what made it high (1 MiB). */
  onDrain(drained: () => void): void;
  /** Called exactly once; `error` is absent for an orderly end. */
  onClose(closed: (error?: Error) => void): void;
  /** Back-pressure on the sender: no onData between pause and resume. */
  pause(): void;
  resume(): void;
  /** Sends what is queued, then ends. */
  end(): void;
  /** Ends at once. */
  destroy(error?: Error): void;
}

export interface DatagramSocket {
  readonly address: Address;
  send(packet: Uint8Array, to: Address): void;
  onMessage(receive: (packet: Uint8Array, from: Address) => void): void;
  /** Addresses to which a broadcast from here would go (empty where no interface allows it), with the given port. */
  broadcastAddresses(port: number): Address[];
  close(): Promise<void>;
}
