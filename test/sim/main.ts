/** `npm run sim`: clusters under a nemesis, one seed after the other; `--help` tells what else (arguments.ts). */
import { TatamiError } from '../../src/errors.ts';
import { HELP, parseArguments, replayCommand } from './arguments.ts';
import type { Request } from './arguments.ts';
import { MUTATIONS, NOT_NOTICED, tryMutation } from './mutations.ts';
import { runTrial } from './trial.ts';
import type { TrialOptions, TrialResult } from './trial.ts';

/** Around the first violation. */
const BEFORE_MS = 4_000;
const AFTER_MS = 500;
/** Where a run failed that was not asked for a timeline. */
const SHOWN_LINES = 80;

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** Stacks of errors cost a fifth of the time; only the run that is looked at has them. */
const BULK_STACK_LINES = 0;
const STACK_LINES = 12;

async function main(): Promise<number> {
  const request = parseArguments(process.argv.slice(2));
  if (request.kind === 'help') {
    say(HELP.trimEnd());
    return 0;
  }
  return request.kind === 'mutations' ? mutations(request) : trials(request);
}

async function mutations({ without, short }: Request & { kind: 'mutations' }): Promise<number> {
  let missed = 0;
  for (const mutation of MUTATIONS) {
    if (without !== undefined && mutation.without !== without) continue;
    Error.stackTraceLimit = BULK_STACK_LINES;
    const found = await tryMutation(mutation, { knownFirst: short });
    if (found === undefined) missed++;
    say(
      found === undefined
        ? `without ${mutation.without}: NOT NOTICED`
        : `without ${mutation.without}: seed ${found.seed}: ${found.what.split('\n')[0]}\n` +
            `  replay: ${replayCommand(found.seed, found.options)}`,
    );
  }
  for (const clause of NOT_NOTICED) {
    if (without === undefined || without === clause)
      say(`without ${clause}: nothing is to be seen of it (mutations.ts)`);
  }
  return missed === 0 ? 0 : 1;
}

async function trials({
  seeds: [first, last],
  options,
  first: firstOnly,
}: Request & { kind: 'trials' }): Promise<number> {
  const total = { seeds: 0, failed: 0, virtualMs: 0, operations: 0, unknown: 0, failovers: 0, withFailover: 0 };
  const startMs = Date.now();
  for (let seed = first; seed <= last; seed++) {
    const result = await tell({ ...options, seed });
    total.seeds++;
    total.virtualMs += result.virtualMs;
    total.operations += result.operationCount;
    total.unknown += result.unknownCount;
    total.failovers += result.failoverCount;
    if (result.failoverCount > 0) total.withFailover++;
    if (result.violations.length > 0) total.failed++;
    if (firstOnly && total.failed > 0) break;
  }
  say(
    `${total.seeds} seeds, ${total.failed} violated; ${(total.virtualMs / 3_600_000).toFixed(2)} virtual hours in ` +
      `${((Date.now() - startMs) / 1000).toFixed(0)} s, ${total.operations} operations (${total.unknown} unknown), ` +
      `${total.failovers} fail-overs (in ${((100 * total.withFailover) / total.seeds).toFixed(1)}% of the seeds)`,
  );
  return total.failed === 0 ? 0 : 1;
}

/** Runs one seed, and says how it went. */
async function tell(options: TrialOptions): Promise<TrialResult> {
  const startMs = Date.now();
  Error.stackTraceLimit = options.timeline === true ? STACK_LINES : BULK_STACK_LINES;
  const result = await runTrial(options);
  const { violations } = result;
  const caused = [...result.troubles].map(([name, count]) => `${name} ${count}`).join(', ');
  say(
    `seed ${options.seed}: ${violations.length === 0 ? 'ok' : 'VIOLATED'} ${(result.virtualMs / 1000).toFixed(1)} s, ` +
      `${result.operationCount} operations (${result.unknownCount} unknown), ${result.failoverCount} fail-overs, ` +
      `${result.eventCount} events, ${Date.now() - startMs} ms; ${caused}`,
  );
  if (violations.length === 0) {
    if (options.timeline === true) say(result.timeline!.between(0, Infinity).join('\n'));
    return result;
  }
  for (const { atMs, what } of violations) say(`  ${atMs.toFixed(1)} ms: ${what.replaceAll('\n', '\n  ')}`);
  say((await timelineBefore(options, result)).join('\n'));
  say(`  replay: ${replayCommand(options.seed, options)}`);
  return result;
}

/** A seed is run again for it: the same run, event for event. */
async function timelineBefore(options: TrialOptions, result: TrialResult): Promise<string[]> {
  const isWhole = options.timeline === true;
  Error.stackTraceLimit = STACK_LINES;
  const again = isWhole ? result : await runTrial({ ...options, timeline: true });
  const firstMs = Math.min(...result.violations.map(({ atMs }) => atMs));
  const lines = again.timeline!.between(firstMs - BEFORE_MS, firstMs + (isWhole ? AFTER_MS : 0));
  return isWhole ? lines : lines.slice(-SHOWN_LINES);
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof TatamiError && error.code === 'ERR_USAGE')) throw error;
  process.stderr.write(`${error.message}\n${error.remedy ?? ''}\n`);
  process.exitCode = 2;
}
