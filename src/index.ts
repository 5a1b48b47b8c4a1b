/**
 * tatamifs as a library: files of a cluster with the manners of `node:fs/promises`.
 *
 * ```ts
 * import { connect } from 'tatamifs';
 * const fs = await connect({ data: './tatami-data' });
 * await fs.writeFile('/hello.txt', 'hello');
 * await fs.close();
 * ```
 *
 * @packageDocumentation
 */
import { connectCatalog, connectCluster } from './client.ts';
import { clusterEvents, type ClusterEvent } from './cluster-events.ts';
import { locateCluster, type ClusterLocation } from './cluster-location.ts';
import { createNodeEnv, processLabel } from './env-node.ts';
import type { Logger } from './log.ts';
import { createNodeTransport } from './net/transport-node.ts';
import type { FileSystem } from './vfs/api.ts';

export * from './errors.ts';
export type { Logger } from './log.ts';
export type { ClusterEvent, EventKind } from './cluster-events.ts';
export type { ClusterLocation } from './cluster-location.ts';
export { BigIntStats, Directory, Dirent, FileHandle, FileSystem, Stats } from './vfs/api.ts';
export type {
  CloneError,
  CloneOptions,
  CloneProgress,
  CompactFilesOptions,
  CompactProgress,
  Encoding,
  EncodingOption,
  FileSystemStats,
  NodeFsError,
  PathLike,
  ReaddirOptions,
  LockOptions,
  ReadOptions,
  StreamOptions,
  TimeLike,
  User,
  WriteInput,
} from './vfs/api.ts';

/** Where the cluster is, and as whom to use it. */
export type ConnectOptions = ClusterLocation & {
  /** Owner of what is made, and whose access {@link FileSystem.access} tells. Default: this process's user. */
  readonly uid?: number;
  /** The same for the group. Default: this process's. */
  readonly gid?: number;
  /** What `tatami status` shows for this program, beside its host and pid. Default: `program`. */
  readonly label?: string;
  /** False: blocks of nodes on this machine are not read from their files but through the nodes. Default: true. */
  readonly localReads?: boolean;
  /**
   * True: blocks that this program has read are given to other readers of the cluster, and those that they have are taken
   * while the nodes are busy. It then listens (on any free port, or at the `host:port` given) for processes with the cluster's
   * key. Default: false.
   */
  readonly share?: boolean | string;
  /** Bytes of blocks kept for reading, at most, 16 MiB or more. Default: 128 MiB. */
  readonly readCacheBytes?: number;
  /**
   * Blocks that were read from other machines are kept in this directory as well, `maxBytes` of them (32 MiB or more), from one
   * run to the next. One connection at a time can use it. Default: nothing is kept on disk.
   */
  readonly diskCache?: { readonly directory: string; readonly maxBytes: number };
  /** Where the connection reports what no caller can be told. Default: nowhere. */
  readonly log?: Logger;
  /**
   * How long one operation waits for nodes that do not answer, in milliseconds, before it fails with `EIO`: 1,000 to
   * 1,800,000. Default: 30,000. A fail-over takes two to three seconds.
   */
  readonly timeoutMs?: number;
};

/**
 * Connects to a cluster. Close the returned filesystem when done: it writes what is still in memory, and until then the
 * connection keeps the process alive.
 *
 * @throws UsageError, FormatError for unusable options or files; AuthError for a wrong key; UnavailableError when no
 * node answers.
 */
export async function connect(options: ConnectOptions): Promise<FileSystem> {
  const { seeds, key } = await locateCluster(createNodeEnv().disk, options);
  const env = createNodeEnv({ transport: createNodeTransport({ tlsKey: key.secret }) });
  const { share = false } = options;
  const client = await connectCluster({
    env,
    seeds,
    key,
    label: processLabel(options.label ?? 'program'),
    ...(options.log === undefined ? {} : { log: options.log }),
    ...(options.localReads === undefined ? {} : { localReads: options.localReads }),
    ...(share === false ? {} : { share: share === true ? {} : { listen: share } }),
    ...(options.readCacheBytes === undefined ? {} : { readCacheBytes: options.readCacheBytes }),
    ...(options.diskCache === undefined ? {} : { diskCache: options.diskCache }),
    ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
  });
  const uid = options.uid ?? process.getuid?.() ?? 0;
  const gid = options.gid ?? process.getgid?.() ?? 0;
  return client.openFileSystem({ uid, gid }, () => client.close());
}

/** Which events of which cluster {@link events} gives. */
export type EventsOptions = ClusterLocation & {
  /** What happened from then on comes first. Default: only what happens from now on; all that is known without `follow`. */
  readonly since?: Date;
  /** Goes on with what happens, until the signal fires or the loop is left. Default: true. */
  readonly follow?: boolean;
  /** Ends the loop, without an error. */
  readonly signal?: AbortSignal;
  /** What `tatami status` shows for this program, beside its host and pid. Default: `events`. */
  readonly label?: string;
};

/**
 * What happens in a cluster: nodes going up and down, promotions, appointments, voters, damage found.
 *
 * ```ts
 * for await (const event of events({ data: './tatami-data', signal })) console.log(event.at, event.text);
 * ```
 *
 * Each event comes once, whichever nodes saw it, and none is lost or repeated while nodes fail and come back: each node keeps
 * the latest 4096 on disk. It needs no metadata to be served. The connection lasts as long as the loop.
 *
 * @throws UsageError, FormatError for unusable options or files; AuthError for a wrong key; UnavailableError when no
 * node answers at the start.
 */
export async function* events(options: EventsOptions): AsyncGenerator<ClusterEvent, void, undefined> {
  const { seeds, key } = await locateCluster(createNodeEnv().disk, options);
  const env = createNodeEnv({ transport: createNodeTransport({ tlsKey: key.secret }) });
  const client = await connectCatalog({ env, seeds, key, label: processLabel(options.label ?? 'events') });
  const { since, follow = true, signal = new AbortController().signal } = options;
  try {
    yield* clusterEvents(client, { since, follow, signal });
  } finally {
    await client.close();
  }
}
