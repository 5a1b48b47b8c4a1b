import { resolve } from 'node:path';
import { connectCatalog } from '../../client.ts';
import { DEFAULT_POOL_ID, poolById } from '../../catalog/document.ts';
import type { ClusterFile } from '../../cluster-location.ts';
import { createNodeEnv } from '../../env-node.ts';
import { UsageError } from '../../errors.ts';
import { NodeDirectory } from '../../node-directory.ts';
import { collectStatus } from '../../upkeep/status.ts';
import { clientLabel } from '../client-label.ts';
import { ClusterFiles, DEFAULT_DATA, findCluster, readKeyFile } from '../cluster-files.ts';
import { EXIT, exitCodeOf } from '../exit-codes.ts';
import { createLocalCluster, startMount, startNodes, stopLocalCluster } from '../local-cluster.ts';
import { runScreen } from '../live-screen.ts';
import { listenForInterruption } from '../interruption.ts';
import { note, print, printError } from '../output.ts';
import { recordFiles } from '../process-record.ts';
import { realEnv } from '../real-env.ts';

export interface UpOptions {
  readonly data?: string;
  /** False with --no-mount. */
  readonly mount?: string | boolean;
  readonly nodes?: number;
  readonly copies?: number;
  readonly detach?: boolean;
  readonly binding: string;
  /** Of the mount, in seconds. */
  readonly timeout?: number;
}

const DEFAULT_MOUNT = './tatami-mnt';
const DEFAULT_NODES = 3;

export async function up(options: UpOptions): Promise<void> {
  const files = new ClusterFiles(options.data ?? process.env['TATAMI_DATA'] ?? DEFAULT_DATA);
  // Asked to stop while still starting: finish the step, then stop everything that was started.
  const stop = listenForInterruption({ insistent: false });
  try {
    const mountPoint = await start(files, options, stop.signal);
    if (options.detach === true && !stop.signal.aborted) return;
    if (!stop.signal.aborted) {
      const where = await findCluster({ data: files.path });
      const client = await connectCatalog({ env: realEnv(where.key), ...where, label: clientLabel('tatami up') });
      const stoppedElsewhere = new AbortController();
      try {
        await runScreen({
          read: async () => {
            const status = await collectStatus(client);
            if ((await recordFiles(files.runPath)).length === 0) stoppedElsewhere.abort();
            return status;
          },
          mountPoint,
          dataPath: files.path,
          signal: AbortSignal.any([stop.signal, stoppedElsewhere.signal]),
        });
      } finally {
        await client.close();
      }
      if (stoppedElsewhere.signal.aborted) {
        note(
          'all of this cluster was stopped from elsewhere; start again with the same command, all files will be there',
        );
        return;
      }
    }
    note('stopping …');
    const stopped = await stopLocalCluster(files);
    note(`stopped ${stopped.length} processes; start again with the same command, all files will be there`);
    // Who did not want to wait for that wanted a cluster that runs.
    if (options.detach === true) process.exitCode = EXIT.interrupted;
  } finally {
    stop.end();
  }
}

async function start(files: ClusterFiles, options: UpOptions, signal: AbortSignal): Promise<string | undefined> {
  let file = await files.load();
  if (file === undefined) {
    const nodeCount = options.nodes ?? DEFAULT_NODES;
    if (options.copies !== undefined && options.copies > nodeCount) {
      throw new UsageError(`${options.copies} copies of each block need as many nodes, not ${nodeCount}`, {
        remedy: `Give --nodes ${options.copies} or more, or --copies ${nodeCount} or fewer.`,
      });
    }
    file = await createLocalCluster(files, { nodeCount, copies: options.copies });
    print(`new cluster of ${file.nodes.length} nodes in ${files.path}`);
  } else if (options.nodes !== undefined && options.nodes !== file.nodes.length) {
    throw new UsageError(`the cluster in ${files.path} has ${file.nodes.length} nodes, not ${options.nodes}`, {
      remedy: 'Leave out --nodes, or choose another --data directory for a new cluster.',
    });
  } else if (options.copies !== undefined) {
    await refuseOtherCopies(files, file, options.copies);
  }
  const { started, alreadyRunning } = await startNodes(files, file);
  const running = alreadyRunning.length > 0 ? ` (${alreadyRunning.join(', ')} already running)` : '';
  if (started.length > 0) print(`started ${started.join(', ')}${running}`);
  else print(`all ${alreadyRunning.length} nodes are running`);
  if (options.mount === false || signal.aborted) return undefined;
  const wanted = typeof options.mount === 'string' ? options.mount : (file.mountPoint ?? DEFAULT_MOUNT);
  const mountPoint = resolve(wanted);
  try {
    const mounted = await startMount(files, mountPoint, [
      ...(options.timeout === undefined ? [] : ['--timeout', String(options.timeout)]),
      ...['--binding', options.binding],
    ]);
    print(mounted ? `mounted at ${mountPoint}` : `already mounted at ${mountPoint}`);
  } catch (error) {
    if (options.detach !== true && exitCodeOf(error) === EXIT.unavailable) {
      // The nodes run, and the screen shows what is the matter with them.
      printError(error);
      note('not mounted; once the group serves, run `tatami up` again in another terminal');
      return undefined;
    }
    // A failed start leaves nothing behind, but must not stop what ran before it.
    if (alreadyRunning.length === 0) await stopLocalCluster(files);
    throw error;
  }
  if (file.mountPoint !== mountPoint) await files.save({ ...file, mountPoint });
  return mountPoint;
}

/** As many as the cluster has is no change; another number would be a promise that nothing keeps. */
async function refuseOtherCopies(files: ClusterFiles, file: ClusterFile, wanted: number): Promise<void> {
  const [first] = file.nodes;
  if (first === undefined) return;
  const key = await readKeyFile(files.keyPath);
  const { catalog } = await new NodeDirectory(createNodeEnv().disk, files.nodePath(first.id)).load(key.clusterId);
  const copies = poolById(catalog, DEFAULT_POOL_ID)?.copies;
  if (copies === wanted) return;
  throw new UsageError(`the cluster in ${files.path} keeps ${copies} copies of each block, not ${wanted}`, {
    remedy: 'Leave out --copies, or choose another --data directory for a new cluster.',
  });
}
