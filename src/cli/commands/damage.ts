import { connectCatalog } from '../../client.ts';
import { damageOf } from '../../upkeep/damage.ts';
import { collectStatus } from '../../upkeep/status.ts';
import { clientLabel } from '../client-label.ts';
import { findCluster, type WhereOptions } from '../cluster-files.ts';
import { damageJson, damageLines, withNames } from '../damage-lines.ts';
import { EXIT } from '../exit-codes.ts';
import { note, print, printJson } from '../output.ts';
import { realEnv } from '../real-env.ts';

export async function damage(options: WhereOptions & { json?: boolean }): Promise<void> {
  const where = await findCluster(options);
  const client = await connectCatalog({ env: realEnv(where.key), ...where, label: clientLabel('tatami damage') });
  let status;
  try {
    status = await collectStatus(client);
  } finally {
    await client.close();
  }
  const silent = status.nodes.filter((node) => node.state === 'down').map((node) => node.id);
  const { damage: found, unnamed } = await withNames(options, damageOf(status));
  if (options.json === true) printJson({ damage: found.map(damageJson), silent, unnamed: unnamed ?? null });
  else {
    for (const line of damageLines(found)) print(line);
    if (found.length === 0) print('no damage on record');
    if (unnamed !== undefined) note(`the files cannot be named now: ${unnamed}`);
    if (silent.length > 0) note(`not asked, as they are down: ${silent.join(', ')}`);
  }
  if (found.some((one) => !one.healed) || silent.length > 0) process.exitCode = EXIT.unhealthy;
}
