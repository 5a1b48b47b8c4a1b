import pc from 'picocolors';
import { connectCatalog } from '../../client.ts';
import { clusterEvents } from '../../cluster-events.ts';
import type { ClusterEvent } from '../../cluster-events.ts';
import { clientLabel } from '../client-label.ts';
import { findCluster } from '../cluster-files.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { runEventCommand } from '../event-command.ts';
import { EXIT } from '../exit-codes.ts';
import { listenForInterruption } from '../interruption.ts';
import { localTime, note, print } from '../output.ts';
import { realEnv } from '../real-env.ts';

export interface EventsOptions extends WhereOptions {
  readonly follow?: boolean;
  readonly json?: boolean;
  readonly since?: Date;
  readonly exec?: string;
  readonly execTimeout?: number;
}

const EXEC_TIMEOUT_S = 60;

/** What happened; with `follow` (which `exec` implies) also what happens, until Ctrl-C. */
export async function events(options: EventsOptions): Promise<void> {
  const { since, exec } = options;
  const follow = options.follow === true || exec !== undefined;
  const interruption = listenForInterruption();
  const { signal } = interruption;
  try {
    const where = await findCluster(options);
    const client = await connectCatalog({ env: realEnv(where.key), ...where, label: clientLabel('tatami events') });
    try {
      const missing: string[] = [];
      const onMissing = (node: string, reason: string): void => void missing.push(`${node}: ${reason}`);
      for await (const event of clusterEvents(client, { since, follow, signal, onMissing })) {
        show(event, options.json === true);
        if (exec === undefined) continue;
        const timeoutMs = (options.execTimeout ?? EXEC_TIMEOUT_S) * 1000;
        const trouble = await runEventCommand(event, { command: exec, timeoutMs, signal });
        if (trouble !== undefined) note(`${pc.yellow('--exec:')} ${trouble} (for: ${event.text}, ${event.id})`);
      }
      for (const line of missing) note(`${pc.yellow('not asked:')} ${line}`);
      if (missing.length > 0)
        note(pc.dim('  What only these nodes have seen (damage on their disks, for example) is missing above.'));
      if (!follow && signal.aborted) process.exitCode = EXIT.interrupted;
    } finally {
      await client.close();
    }
  } finally {
    interruption.end();
  }
}

function show(event: ClusterEvent, asJson: boolean): void {
  if (asJson) return print(JSON.stringify(event));
  const seen = event.seenBy === undefined || event.seenBy === event.node ? '' : pc.dim(` (seen by ${event.seenBy})`);
  print(`${localTime(event.at)}  ${painted(event.kind)}  ${event.text}${seen}`);
}

const BAD: ReadonlySet<string> = new Set(['node-down', 'damage-found', 'secondary-dropped', 'group-forced']);
const WIDTH = 'secondary-dropped'.length;

function painted(kind: string): string {
  const padded = kind.padEnd(WIDTH);
  if (BAD.has(kind)) return pc.red(padded);
  return kind === 'node-suspect' ? pc.yellow(padded) : kind === 'node-up' ? pc.green(padded) : padded;
}
