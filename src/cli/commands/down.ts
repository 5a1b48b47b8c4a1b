import { ClusterFiles, DEFAULT_DATA } from '../cluster-files.ts';
import { stopLocalCluster } from '../local-cluster.ts';
import { print } from '../output.ts';

export async function down(options: { data?: string }): Promise<void> {
  const files = new ClusterFiles(options.data ?? process.env['TATAMI_DATA'] ?? DEFAULT_DATA);
  await files.require();
  const stopped = await stopLocalCluster(files);
  if (stopped.length === 0) print('nothing of this cluster was running');
  for (const record of stopped) print(`stopped ${record.role} ${record.name}`);
}
