import { COLLECT_EVERY_MAX_MS, COLLECT_EVERY_MIN_MS } from '../../catalog/collection.ts';
import { UsageError } from '../../errors.ts';
import { collectGarbage } from '../../upkeep/gc.ts';
import { collectStatus, storedBlocks } from '../../upkeep/status.ts';
import { setCollectEvery } from '../../upkeep/membership.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { bytes, print, printJson, progress } from '../output.ts';
import { duration } from '../times.ts';
import { withCatalog, withClient } from '../with-cluster.ts';

export interface GcCommandOptions extends WhereOptions {
  readonly dryRun?: boolean;
  readonly every?: number | null;
  readonly json?: boolean;
}

export async function gc(options: GcCommandOptions): Promise<void> {
  const { every } = options;
  if (every !== undefined) await setEvery(options, every);
  else await collect(options);
}

async function setEvery(options: GcCommandOptions, everyMs: number | null): Promise<void> {
  if (everyMs !== null && (everyMs < COLLECT_EVERY_MIN_MS || everyMs > COLLECT_EVERY_MAX_MS)) {
    throw new UsageError(
      `--every is from ${duration(COLLECT_EVERY_MIN_MS)} to ${duration(COLLECT_EVERY_MAX_MS)}, or never`,
    );
  }
  await withCatalog(options, 'tatami gc', (client) => setCollectEvery(client, everyMs));
  print(
    everyMs === null ? 'nothing is freed by itself any more' : `unused blocks are freed every ${duration(everyMs)}`,
  );
}

async function collect(options: GcCommandOptions): Promise<void> {
  await withClient(options, 'tatami gc', async (client) => {
    const dryRun = options.dryRun === true;
    const { copyCount, blockCount } = storedBlocks(await collectStatus(client));
    const blocks = (count: number) => `${count} blocks`;
    const bars = {
      mark: progress('gc: blocks in use', blockCount, blocks),
      sweep: progress('gc: copies looked at', copyCount, blocks),
    };
    const result = await collectGarbage({
      network: client.network,
      catalog: client.catalog,
      meta: client.meta,
      dryRun,
      onProgress({ phase, markedCount, scannedCount }) {
        if (phase === 'sweep') bars.mark.end();
        bars[phase].update(phase === 'mark' ? markedCount : scannedCount);
      },
    }).finally(() => {
      bars.mark.end();
      bars.sweep.end();
    });
    if (options.json === true) return printJson(result);
    print(`${result.scannedCount} block copies looked at, ${result.liveCount} blocks in use`);
    if (result.pendingCount > 0) {
      print(
        `${result.pendingCount} copies (${bytes(result.pendingBytes)}) are newer than this collection and not in use, or not yet: the next one sees`,
      );
    }
    print(`${result.reclaimedCount} copies ${dryRun ? 'would be' : 'were'} deleted: ${bytes(result.reclaimedBytes)}`);
    if (result.skippedNodes.length > 0) {
      print(
        `not swept, as they could not be reached: ${result.skippedNodes.join(', ')}; run it again when they are back`,
      );
    }
  });
}
