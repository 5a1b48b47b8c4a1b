import { collectGarbage } from '../../upkeep/gc.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { bytes, note, print, printJson } from '../output.ts';
import { withClient } from '../with-cluster.ts';

export async function gc(options: WhereOptions & { dryRun?: boolean; json?: boolean }): Promise<void> {
  await withClient(options, 'tatami gc', async (client) => {
    const dryRun = options.dryRun === true;
    let shown = 0;
    const result = await collectGarbage({
      network: client.network,
      catalog: client.catalog,
      meta: client.meta,
      dryRun,
      onProgress(progress) {
        const now = performance.now();
        if (now - shown < 2_000) return;
        shown = now;
        note(`${progress.phase}: ${progress.markedCount} blocks in use, ${progress.scannedCount} copies looked at`);
      },
    });
    if (options.json === true) return printJson(result);
    print(`${result.scannedCount} block copies looked at, ${result.liveCount} blocks in use`);
    print(`${result.reclaimedCount} copies ${dryRun ? 'would be' : 'were'} deleted: ${bytes(result.reclaimedBytes)}`);
    if (result.skippedNodes.length > 0) {
      print(
        `not swept, as they could not be reached: ${result.skippedNodes.join(', ')}; run it again when they are back`,
      );
    }
  });
}
