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
import { connectCluster } from './client.ts';
import { parseClusterKey } from './cluster-key.ts';
import { CLUSTER_FILE, KEY_FILE, parseClusterFile } from './cluster-location.ts';
import { createNodeEnv } from './env-node.ts';
import type { Env } from './env.ts';
import { UsageError } from './errors.ts';
import type { Logger } from './log.ts';
import { createNodeTransport } from './net/transport-node.ts';
import type { FileSystem } from './vfs/api.ts';

export * from './errors.ts';
export type { Logger } from './log.ts';
export { FileSystem } from './vfs/api.ts';

/** Where the cluster is, and as whom to use it. */
export type ConnectOptions = (
  | {
      /** Data directory of a one-machine cluster (`tatami up --data`). */
      readonly data: string;
    }
  | {
      /** Addresses of nodes, `host:port`; one that answers is enough. */
      readonly connect: string | readonly string[];
      /** Path of the cluster key. */
      readonly keyFile: string;
    }
) & {
  /** Owner of what is made. Default: this process's. */
  readonly uid?: number;
  readonly gid?: number;
  /** What `tatami status` shows for this program. */
  readonly label?: string;
  readonly log?: Logger;
};

/**
 * Connects to a cluster. Close the returned filesystem when done: it writes what is still in memory.
 *
 * @throws UsageError, FormatError for unusable options or files; AuthError for a wrong key; UnavailableError when no
 * node answers.
 */
export async function connect(options: ConnectOptions): Promise<FileSystem> {
  const reader = createNodeEnv();
  const { seeds, keyPath } = await locate(reader, options);
  const key = parseClusterKey(new TextDecoder().decode(await reader.disk.readFile(keyPath)), keyPath);
  const env = createNodeEnv({ transport: createNodeTransport({ tlsKey: key.secret }) });
  const client = await connectCluster({
    env,
    seeds,
    key,
    label: options.label ?? 'program',
    ...(options.log === undefined ? {} : { log: options.log }),
  });
  const uid = options.uid ?? process.getuid?.() ?? 0;
  const gid = options.gid ?? process.getgid?.() ?? 0;
  return client.openFileSystem({ uid, gid }, () => client.close());
}

async function locate(env: Env, options: ConnectOptions): Promise<{ seeds: readonly string[]; keyPath: string }> {
  if ('connect' in options) {
    const seeds = typeof options.connect === 'string' ? options.connect.split(',') : options.connect;
    if (seeds.length === 0) throw new UsageError('connect: give at least one address');
    return { seeds, keyPath: options.keyFile };
  }
  const path = `${options.data}/${CLUSTER_FILE}`;
  if (!(await env.disk.exists(path))) {
    throw new UsageError(`there is no cluster in ${options.data}`, { remedy: 'Start one with `tatami up`.' });
  }
  const file = parseClusterFile(new TextDecoder().decode(await env.disk.readFile(path)), path);
  return { seeds: file.nodes.map((node) => node.address), keyPath: `${options.data}/${KEY_FILE}` };
}
