/**
 * `npm run sim -- --seed N | --seeds A-B [--nodes K] [--seconds S] [--steps M] [--timeline]
 *   [--troubles a,b] [--min-replicas 1|2] [--without RULE] [--first] | --mutations`
 *
 * `--steps`: clients stop after so many operations; `--troubles`: of these kinds only (nemesis.ts); `--without`: one
 * clause of the rules switched off (src/meta/group/rules.ts); `--first`: ends with the first seed that fails.
 */
import { parseArgs } from 'node:util';
import { ALL_RULES } from '../../src/meta/group/rules.ts';
import type { GroupRules } from '../../src/meta/group/rules.ts';
import { MUTATIONS, tryMutation } from './mutations.ts';
import { TROUBLES } from './nemesis.ts';
import { runTrial } from './trial.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    steps: { type: 'string' },
    nodes: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '60' },
    troubles: { type: 'string' },
    'min-replicas': { type: 'string' },
    first: { type: 'boolean', default: false },
    without: { type: 'string' },
    mutations: { type: 'boolean', default: false },
    timeline: { type: 'boolean', default: false },
  },
});
const say = (text: string): void => void process.stdout.write(`${text}\n`);
if (values.mutations) {
  let missed = 0;
  for (const mutation of MUTATIONS) {
    const found = await tryMutation(mutation, Number(values.nodes), Number(values.seconds));
    if (found === undefined) missed++;
    const outcome = found === undefined ? 'NOT NOTICED' : `seed ${found.seed}: ${found.what.split('\n')[0]}`;
    say(`without ${mutation.without} (${mutation.troubles.join()}; ${mutation.seeds} seeds): ${outcome}`);
  }
  process.exit(missed === 0 ? 0 : 1);
}
const [first = 1, last = first] = (values.seeds ?? values.seed ?? '1').split('-').map(Number);
/** Around the first violation, with --timeline. */
const BEFORE_MS = 4_000;
const AFTER_MS = 500;
let failed = 0;
const total = { virtualMs: 0, operations: 0, unknown: 0, failovers: 0, withFailover: 0, seeds: 0 };
for (let seed = first; seed <= last; seed++) {
  const startMs = Date.now();
  const nodes = Number(values.nodes);
  const seconds = Number(values.seconds);
  const { without } = values;
  if (without !== undefined && !(without in ALL_RULES)) throw new Error(`rules: ${Object.keys(ALL_RULES).join(' ')}`);
  const mutation = without === undefined ? {} : { without: without as keyof GroupRules };
  const troubles = values.troubles?.split(',').map((name) => TROUBLES.find((trouble) => trouble === name) ?? 'kill');
  const result = await runTrial({
    seed,
    nodes,
    seconds,
    timeline: values.timeline,
    ...(values.steps === undefined ? {} : { steps: Number(values.steps) }),
    ...(values['min-replicas'] === undefined ? {} : { minReplicas: values['min-replicas'] === '1' ? 1 : 2 }),
    ...mutation,
    ...(troubles === undefined ? {} : { troubles }),
  });
  total.seeds++;
  total.virtualMs += result.virtualMs;
  total.operations += result.operationCount;
  total.unknown += result.unknownCount;
  total.failovers += result.failoverCount;
  if (result.failoverCount > 0) total.withFailover++;
  const { violations } = result;
  const caused = [...result.troubles].map(([name, count]) => `${name} ${count}`).join(', ');
  say(
    `seed ${seed}: ${violations.length === 0 ? 'ok' : 'VIOLATED'} ${(result.virtualMs / 1000).toFixed(1)} s, ` +
      `${result.operationCount} operations (${result.unknownCount} unknown), ${result.failoverCount} fail-overs, ` +
      `${result.eventCount} events, ${Date.now() - startMs} ms; ${caused}`,
  );
  if (violations.length === 0) continue;
  failed++;
  for (const { atMs, what } of violations) say(`  ${atMs.toFixed(1)} ms: ${what.replaceAll('\n', '\n  ')}`);
  const firstMs = Math.min(...violations.map(({ atMs }) => atMs));
  for (const line of result.timeline?.between(firstMs - BEFORE_MS, firstMs + AFTER_MS) ?? []) say(line);
  say(`  replay: npm run sim -- --seed ${seed} --nodes ${nodes} --seconds ${seconds} --timeline`);
  if (values.first) break;
}
say(
  `${total.seeds} seeds, ${failed} violated; ${(total.virtualMs / 3_600_000).toFixed(2)} virtual hours, ` +
    `${total.operations} operations (${total.unknown} unknown), ${total.failovers} fail-overs (in ${total.withFailover} seeds)`,
);
process.exit(failed === 0 ? 0 : 1);
