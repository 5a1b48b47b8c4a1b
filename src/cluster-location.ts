/**
 * How a one-machine cluster (`tatami up`) is laid out in its data directory, and the file that says so.
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
import { FormatError } from './errors.ts';

const clusterFileSchema = z.strictObject({
  formatVersion: z.literal(1),
  clusterId: z.string(),
  nodes: z.array(z.strictObject({ id: z.string(), address: z.string() })).min(1),
  mountPoint: z.string().optional(),
});

export type ClusterFile = z.infer<typeof clusterFileSchema>;

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
