import { collectGarbage } from '../../upkeep/gc.ts';
import { collectStatus, storedBlocks } from '../../upkeep/status.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { bytes, print, printJson, progress } from '../output.ts';
import { withClient } from '../with-cluster.ts';

export async function gc(options: WhereOptions & { dryRun?: boolean; json?: boolean }): Promise<void> {
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
    print(`${result.reclaimedCount} copies ${dryRun ? 'would be' : 'were'} deleted: ${bytes(result.reclaimedBytes)}`);
    if (result.skippedNodes.length > 0) {
      print(
        `not swept, as they could not be reached: ${result.skippedNodes.join(', ')}; run it again when they are back`,
      );
    }
  });
}
