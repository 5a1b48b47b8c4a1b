/**
 * A program's (or a mount's) connection to a cluster: catalog, metadata and blocks, and filesystems opened over them.
 * The composition root of the client side; src/node.ts is that of a node.
 */
import { createBlockClient } from './blocks/block-client.ts';
import type { BlockClient } from './blocks/types.ts';
import { CatalogReplica } from './catalog/replica.ts';
import { parseCatalog } from './catalog/schema.ts';
import type { Catalog } from './catalog/types.ts';
import type { ClusterKey } from './cluster-key.ts';
import type { Env } from './env.ts';
import { AuthError, FormatError, TatamiError, UnavailableError } from './errors.ts';
import { ATTEMPT_TIMEOUT_MS, CONNECT_TIMEOUT_MS } from './limits.ts';
import { connectMeta } from './meta/meta-client.ts';
import type { RemoteMetaClient } from './meta/meta-client.ts';
import { createNetwork } from './net/network.ts';
import type { Network } from './net/types.ts';
import { FileSystem } from './vfs/api.ts';
import { Vfs } from './vfs/vfs.ts';
import type { VfsLimits } from './vfs/vfs.ts';

export interface ConnectOptions {
  readonly env: Env;
  /** Addresses of some nodes; one that answers is enough. */
  readonly seeds: readonly string[];
  readonly key: ClusterKey;
  /** What `tatami status` shows for this client. */
  readonly label: string;
  readonly log?: (text: string) => void;
}

export interface ClusterClient {
  readonly network: Network;
  readonly catalog: CatalogReplica;
  readonly meta: RemoteMetaClient;
  readonly blocks: BlockClient;
  /** A POSIX view for a kernel binding. Closed by whoever opened it, before the client. */
  openVfs(limits?: Partial<VfsLimits>): Vfs;
  /** A view with the manners of node:fs/promises, as the given user. */
  openFileSystem(user: { readonly uid: number; readonly gid: number }): Promise<FileSystem>;
  close(): Promise<void>;
}
