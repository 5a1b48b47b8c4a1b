/** Connects for the length of one command. */
import type { CatalogClient, ClusterClient } from '../client.ts';
import { connectCatalog, connectCluster } from '../client.ts';
import type { FileSystem } from '../vfs/api.ts';
import { clientLabel } from './client-label.ts';
import { findCluster } from './cluster-files.ts';
import type { WhereOptions } from './cluster-files.ts';
import { realEnv } from './real-env.ts';
import { thisUser } from './this-user.ts';

export async function withClient<T>(
  options: WhereOptions,
  label: string,
  work: (client: ClusterClient) => Promise<T>,
): Promise<T> {
  const where = await findCluster(options);
  const client = await connectCluster({ env: realEnv(where.key), ...where, label: clientLabel(label) });
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

/** For what needs no metadata: also works while none is served. */
export async function withCatalog<T>(
  options: WhereOptions,
  label: string,
  work: (client: CatalogClient) => Promise<T>,
): Promise<T> {
  const where = await findCluster(options);
  const client = await connectCatalog({ env: realEnv(where.key), ...where, label: clientLabel(label) });
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

export async function withFileSystem<T>(
  options: WhereOptions,
  label: string,
  work: (fs: FileSystem, client: ClusterClient) => Promise<T>,
): Promise<T> {
  return withClient(options, label, async (client) => {
    const fs = client.openFileSystem(thisUser());
    try {
      return await work(fs, client);
    } finally {
      await fs.close();
    }
  });
}
