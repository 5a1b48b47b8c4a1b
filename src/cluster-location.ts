/**
 * How a one-machine cluster (`tatami up`) is laid out in its data directory, the file that says so, and how a program
 * finds a cluster by what its user says.
 *
 * ```
 * DATA/cluster.json   nodes and their addresses
 * DATA/cluster.key    see cluster-key.ts, mode 0600
 * DATA/nodes/ID/      one data directory a node (node-directory.ts)
 * DATA/run/           one record per running process
 * DATA/log/           one log a process
 * ```
 */
import { z } from 'zod';
import { parseClusterKey, type ClusterKey } from './cluster-key.ts';
import type { Disk } from './env.ts';
import { FormatError, UsageError } from './errors.ts';

const clusterFileSchema = z.strictObject({
  formatVersion: z.literal(1),
  clusterId: z.string(),
  nodes: z.array(z.strictObject({ id: z.string(), address: z.string() })).min(1),
  mountPoint: z.string().optional(),
});

export type ClusterFile = z.infer<typeof clusterFileSchema>;

/** Where a cluster is: on this machine, or at addresses of the network. */
export type ClusterLocation =
  | {
      /** Data directory of a one-machine cluster (`tatami up --data`). */
      readonly data: string;
    }
  | {
      /** Addresses of nodes, `host:port` (in a string: separated by commas); one that answers is enough. */
      readonly connect: string | readonly string[];
      /** Path of the cluster key. */
      readonly keyFile: string;
    };

export const CLUSTER_FILE = 'cluster.json';
export const KEY_FILE = 'cluster.key';

/** Throws FormatError that names `where`. */
export function parseClusterFile(text: string, where: string): ClusterFile {
  try {
    return clusterFileSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new FormatError(`${where} is damaged or of a newer format`, {
      cause: error,
      remedy: 'Put the file back as `tatami up` wrote it, or run a newer tatamifs.',
    });
  }
}

/**
 * The addresses and the key of the cluster at `location`.
 *
 * @throws UsageError if there is no cluster or no key, others can read the key, or no address is given; FormatError if a file is damaged or newer.
 */
export async function locateCluster(
  disk: Pick<Disk, 'exists' | 'readFile' | 'permissions'>,
  location: ClusterLocation,
): Promise<{ readonly seeds: readonly string[]; readonly key: ClusterKey }> {
  if ('connect' in location) {
    const given = typeof location.connect === 'string' ? location.connect.split(',') : location.connect;
    const seeds = given.map((seed) => seed.trim()).filter((seed) => seed !== '');
    if (seeds.length === 0) throw new UsageError('connect: give at least one address');
    return { seeds, key: await readKey(disk, location.keyFile) };
  }
  const path = `${location.data}/${CLUSTER_FILE}`;
  if (!(await disk.exists(path))) {
    throw new UsageError(`there is no cluster in ${location.data}`, { remedy: 'Start one with `tatami up`.' });
  }
  const file = parseClusterFile(new TextDecoder().decode(await disk.readFile(path)), path);
  return { seeds: file.nodes.map((node) => node.address), key: await readKey(disk, `${location.data}/${KEY_FILE}`) };
}

async function readKey(disk: Pick<Disk, 'readFile' | 'permissions'>, path: string): Promise<ClusterKey> {
  let bytes: Uint8Array;
  try {
    bytes = await disk.readFile(path);
  } catch (error) {
    throw new UsageError(`cannot read the key file ${path}`, {
      cause: error,
      remedy: 'Give the path of the cluster key; `tatami init` and `tatami up` make it.',
    });
  }
  const key = parseClusterKey(new TextDecoder().decode(bytes), path);
  if ((((await disk.permissions?.(path)) ?? 0) & 0o077) !== 0) {
    throw new UsageError(`the key file ${path} can be read by other users`, { remedy: `Run: chmod 600 ${path}` });
  }
  return key;
}
