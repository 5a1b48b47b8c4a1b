/**
 * Metadata throughput of one group by the library: primary and secondary on two nodes, a client process, many operations
 * in flight. No kernel between.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execFileSync } from 'node:child_process';
import { median, spread } from './measure.ts';
import { tatami } from './tatami.ts';
import type { Benchmark, Row } from './types.ts';

const CLIENT = fileURLToPath(new URL('./metadata-client.js', import.meta.url));
const IN_FLIGHT = 64;
const COUNT = 20_000;
const KINDS = ['create', 'stat', 'rename', 'unlink'] as const;
type Rates = Readonly<Record<(typeof KINDS)[number], number>>;

export const metadataRates: Benchmark = {
  name: 'metadata',
  about: `create, stat, rename, unlink by the library, ${IN_FLIGHT} in flight, one group on two nodes`,
  async run(context) {
    const data = join(context.workDirectory, 'metadata');
    const rounds: Rates[] = [];
    tatami('up', '--data', data, '--no-mount', '--detach', '--nodes', '2', '--copies', '2');
    try {
      const run = (name: string) => {
        const args = [CLIENT, data, `/${name}`, String(COUNT), String(IN_FLIGHT)];
        const said = execFileSync(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' });
        return JSON.parse(said) as Rates;
      };
      // Once beforehand: the nodes' code is compiled then.
      run('warm-up');
      for (let round = 0; round < context.rounds; round++) rounds.push(run(`round-${round}`));
    } finally {
      tatami('down', '--data', data);
      rmSync(data, { recursive: true, force: true });
    }
    await context.note(`creates by the library: ${median(rounds.map((rates) => rates.create)).toFixed(0)} /s`);
    return KINDS.map((kind): Row => {
      const values = rounds.map((rates) => rates[kind]);
      const goal = kind === 'create' ? { goal: { atLeast: 8_000 } } : {};
      const name = `library ${kind}, ${IN_FLIGHT} in flight`;
      return { name, value: median(values), unit: '/s', spread: spread(values), ...goal };
    });
  },
};
