/** What a node's store costs that has many blocks: memory, and the time to open it, in order and after a crash. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { dropPageCache, median, spread } from './measure.ts';
import type { Benchmark, Row } from './types.ts';

const CLIENT = fileURLToPath(new URL('./many-blocks-client.js', import.meta.url));
const COUNTS = [50_000, 500_000, 5_000_000];

interface Opened {
  readonly openMs: number;
  readonly lookupsPerSecond: number;
  readonly residentMiB: number;
  readonly blockCount: number;
}

function client(...args: string[]): string {
  const ran = spawnSync(process.execPath, [CLIENT, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  });
  if (ran.status !== 0 && ran.signal !== 'SIGKILL') throw new Error(`${args.join(' ')} ended with ${ran.status}`);
  return ran.stdout;
}

function open(path: string, count: number, end: 'close' | 'kill'): Opened {
  dropPageCache();
  return JSON.parse(client('open', path, String(count), end)) as Opened;
}

export const manyBlocks: Benchmark = {
  name: 'many-blocks',
  byNameOnly: true,
  about: 'memory and opening of a store that has 50,000, 500,000 and 5,000,000 blocks (packs without data)',
  async run(context) {
    const rows: Row[] = [];
    let before: { readonly count: number; readonly values: ReadonlyMap<string, number> } | undefined;
    for (const count of COUNTS) {
      const path = join(context.workDirectory, `many-${count}`);
      try {
        client('fill', path, String(count));
        const closed: Opened[] = [];
        const killed: Opened[] = [];
        for (let round = 0; round < context.rounds; round++) {
          closed.push(open(path, count, 'kill'));
          killed.push(open(path, count, 'close'));
        }
        const measured: [name: string, unit: Row['unit'], values: number[], atMost?: number][] = [
          ['resident after 50,000 lookups', 'MiB', closed.map(({ residentMiB }) => residentMiB), 1.2],
          ['opened after it was closed', 'ms', closed.map(({ openMs }) => openMs), 10],
          ['opened after a crash', 'ms', killed.map(({ openMs }) => openMs), 10],
          ['lookups, half of them in vain', '/s', closed.map(({ lookupsPerSecond }) => lookupsPerSecond)],
        ];
        const values = new Map<string, number>();
        for (const [name, unit, all, atMost] of measured) {
          const value = median(all);
          const last = before?.values.get(name);
          values.set(name, value);
          rows.push({
            name: `${count.toLocaleString('en')} blocks: ${name}`,
            value,
            unit,
            ...(last === undefined || before === undefined
              ? {}
              : { yardstick: { name: before.count.toLocaleString('en'), value: last }, ratio: value / last }),
            ...(atMost === undefined || last === undefined ? {} : { goal: { atMost } }),
            spread: spread(all),
          });
        }
        before = { count, values };
        await context.note(
          `${count} blocks: opened in ${Math.round(values.get('opened after it was closed') ?? 0)} ms, after a crash in ${Math.round(values.get('opened after a crash') ?? 0)} ms`,
        );
      } finally {
        rmSync(path, { recursive: true, force: true });
      }
    }
    return rows;
  },
};
