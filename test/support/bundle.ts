/** Child processes of tests run TypeScript of this repository: one file is made of it, since Node 20 reads no types. */
import { mkdtemp, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { rolldown } from 'rolldown';

export interface Bundle {
  /** To be run by node. */
  readonly path: string;
  remove(): Promise<void>;
}

/** `entry` is relative to the repository. Packages stay outside and are found as usual. */
export async function bundleForNode(entry: string): Promise<Bundle> {
  const root = resolve(import.meta.dirname, '../..');
  // Where packages are found, and nowhere that git or a watcher looks.
  const directory = await mkdtemp(join(root, 'node_modules', '.tatamifs-bundle-'));
  const path = join(directory, 'main.mjs');
  const build = await rolldown({
    input: join(root, entry),
    platform: 'node',
    external: (id) => !id.startsWith('.') && !id.startsWith('/'),
  });
  await build.write({ file: path, format: 'esm', codeSplitting: false });
  await build.close();
  return { path, remove: () => rm(directory, { recursive: true, force: true }) };
}
