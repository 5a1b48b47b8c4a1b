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

/** With --brief. */
const BRIEF_SEEDS = 100;

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

async function trials(request: Request & { kind: 'trials' }): Promise<number> {
  const { options, brief } = request;
  const [first, last] = request.seeds;
  const total = new Total();
  for (let seed = first; seed <= last; seed++) {
    const startMs = Date.now();
    Error.stackTraceLimit = options.timeline === true ? STACK_LINES : BULK_STACK_LINES;
    const result = await runTrial({ ...options, seed });
    total.add(result);
    if (!brief || result.violations.length > 0) await tell({ ...options, seed }, result, Date.now() - startMs);
    if (request.first && total.failed > 0) break;
    if (brief && total.seeds % BRIEF_SEEDS === 0 && seed < last) say(`to seed ${seed}: ${total.text}`);
  }
  say(total.text);
  return total.failed === 0 ? 0 : 1;
}

class Total {
  seeds = 0;
  failed = 0;
  readonly #startMs = Date.now();
  #virtualMs = 0;
  #operations = 0;
  #unknown = 0;
  #failovers = 0;
  #withFailover = 0;

  add({ violations, virtualMs, operationCount, unknownCount, failoverCount }: TrialResult): void {
    this.seeds++;
    if (violations.length > 0) this.failed++;
    this.#virtualMs += virtualMs;
    this.#operations += operationCount;
    this.#unknown += unknownCount;
    this.#failovers += failoverCount;
    if (failoverCount > 0) this.#withFailover++;
  }

  get text(): string {
    return (
      `${this.seeds} seeds, ${this.failed} violated; ${(this.#virtualMs / 3_600_000).toFixed(2)} virtual hours in ` +
      `${((Date.now() - this.#startMs) / 1000).toFixed(0)} s, ${this.#operations} operations (${this.#unknown} unknown), ` +
      `${this.#failovers} fail-overs (in ${((100 * this.#withFailover) / this.seeds).toFixed(1)}% of the seeds)`
    );
  }
}

/** How a seed went. */
async function tell(options: TrialOptions, result: TrialResult, tookMs: number): Promise<void> {
  const { violations } = result;
  const caused = [...result.troubles].map(([name, count]) => `${name} ${count}`).join(', ');
  say(
    `seed ${options.seed}: ${violations.length === 0 ? 'ok' : 'VIOLATED'} ${(result.virtualMs / 1000).toFixed(1)} s, ` +
      `${result.operationCount} operations (${result.unknownCount} unknown), ${result.failoverCount} fail-overs, ` +
      `${result.eventCount} events, ${tookMs} ms; ${caused}`,
  );
  if (violations.length === 0) {
    if (options.timeline === true) say(result.timeline!.between(0, Infinity).join('\n'));
    return;
  }
  for (const { atMs, what } of violations) say(`  ${atMs.toFixed(1)} ms: ${what.replaceAll('\n', '\n  ')}`);
  say((await timelineBefore(options, result)).join('\n'));
  say(`  replay: ${replayCommand(options.seed, options)}`);
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
