import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createNodeEnv } from '../env-node.ts';
import { NodeDirectory } from '../node-directory.ts';
import { ClusterFiles } from './cluster-files.ts';
import { createLocalCluster, startNodes, stopLocalCluster } from './local-cluster.ts';
import { registerMount, registeredMount } from './mount-registry.ts';
import { writeRecord } from './process-record.ts';

describe('a cluster on one machine', () => {
  let scratch: string;
  let files: ClusterFiles;
  const children: ReturnType<typeof spawn>[] = [];
  /** Some other process. */
  const bystander = () => {
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    children.push(child);
    return child;
  };
  beforeEach(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'tatami-local-'));
    files = new ClusterFiles(join(scratch, 'data'));
  });
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await rm(scratch, { recursive: true, force: true });
  });

  it('two that make one in the same directory do not mix theirs', async () => {
    const make = () => createLocalCluster(files, { nodeCount: 3, copies: undefined });
    const results = await Promise.allSettled([make(), make()]);
    const reasons = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
    const message = expect.stringMatching(/another `tatami up`/) as string;
    expect(reasons).toEqual([expect.objectContaining({ code: 'ERR_USAGE', message })]);
    const { clusterId, nodes } = await files.require();
    for (const { id } of nodes) await new NodeDirectory(createNodeEnv().disk, files.nodePath(id)).load(clusterId);
    expect((await readdir(files.path)).sort()).toEqual(['cluster.json', 'cluster.key', 'nodes']);
    await expect(make()).rejects.toThrow(/has just made a cluster/);
  });

  it('one that could not be made leaves the directory as it was', async () => {
    const full = new ClusterFiles(files.path);
    full.save = () => Promise.reject(new Error('ENOSPC: no space left on device'));
    await expect(createLocalCluster(full, { nodeCount: 2, copies: undefined })).rejects.toThrow('ENOSPC');
    expect(await readdir(files.path)).toEqual([]);
    await createLocalCluster(files, { nodeCount: 2, copies: undefined });
  });

  // Nothing is built where unit tests run: the nodes that are started here end at once.
  it('a start that fails stops no node that somebody else has started meanwhile', async () => {
    const file = await createLocalCluster(files, { nodeCount: 1, copies: undefined });
    const other = bystander();
    const starting = startNodes(files, file).catch((error: unknown) => error);
    while (!existsSync(join(files.logPath, 'n1.log'))) await turn();
    await writeRecord(join(files.runPath, 'n1.json'), { role: 'node', name: 'n1', pid: other.pid ?? 0 });
    expect(await starting).toMatchObject({ code: 'ERR_START' });
    expect([other.exitCode, other.signalCode]).toEqual([null, null]);
  });

  it('names every mount that was ended without saying whether all was written', async () => {
    const points = ['one', 'two'].map((name) => join(scratch, name));
    for (const [index, point] of points.entries()) {
      const own = { pid: bystander().pid ?? 0, realMountPoint: point, closeTimeoutMs: 0 };
      await registerMount(own);
      const path = join(files.runPath, `mount-${index}.json`);
      await writeRecord(path, { role: 'mount', name: point, mountPoint: point, ...own });
    }
    const said = await stopLocalCluster(files).catch((error: unknown) => error);
    expect(said).toMatchObject({ code: 'EIO' });
    for (const point of points) {
      expect((said as Error).message).toContain(`${point} is unmounted, but its process ended without saying`);
      expect(await registeredMount(point)).toBeUndefined();
    }
  });
});
