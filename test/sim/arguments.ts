/** What `npm run sim` can be asked for. */
import { parseArgs } from 'node:util';
import type { TatamiError } from '../../src/errors.ts';
import { UsageError } from '../../src/errors.ts';
import { ALL_RULES } from '../../src/meta/group/rules.ts';
import type { GroupRules } from '../../src/meta/group/rules.ts';
import { TROUBLES } from './nemesis.ts';
import type { TrialOptions } from './trial.ts';

export const HELP = `Usage: npm run sim -- [options]

A whole cluster, its clients included, in one process and in virtual time: whatever can fail fails, by chance from a
seed, and everything that must hold is checked. The same seed and options give the same run, event for event.

  --seed N            one seed (default 1)
  --seeds A-B         several, one after the other
  --nodes K           nodes, 2 to 9 (default 5). Where nodes join (a trouble like others), some are not there at first
  --steps M           clients make M operations in all, and then one a second each (default: no bound)
  --seconds S         virtual seconds, at least; the last quarter is without troubles (default 60)
  --troubles a,b      only these, instead of some that the seed chooses:
                      ${TROUBLES.slice(0, 8).join(' ')}
                      ${TROUBLES.slice(8).join(' ')}
  --min-replicas 1|2  of the group (default: the seed chooses)
  --timeline          what the nodes said to each other, logged and suffered, around the first violation, or all of it
  --brief             a line for every hundred seeds, and what failed; for runs of thousands (nice -n 10 npm run sim ...)
  --first             end with the first seed that fails
  --without RULE      one clause of the rules of src/meta/group/rules.ts switched off:
                      ${Object.keys(ALL_RULES).slice(0, 5).join(' ')}
                      ${Object.keys(ALL_RULES).slice(5).join(' ')}
  --mutations         switch each clause off in turn: does some seed notice? With --without: only that one
  --short             with --mutations: the seeds that are known to notice first
  --help              this text

A seed that fails prints what was violated, the timeline before it, and the command that replays it; the exit code is 1.
`;

export type Request =
  | { readonly kind: 'help' }
  | { readonly kind: 'mutations'; readonly without: keyof GroupRules | undefined; readonly short: boolean }
  | {
      readonly kind: 'trials';
      readonly seeds: readonly [number, number];
      readonly options: Omit<TrialOptions, 'seed'>;
      readonly first: boolean;
      readonly brief: boolean;
    };

const DEFAULT_NODES = 5;
const DEFAULT_SECONDS = 60;

/** UsageError for what it does not understand. */
export function parseArguments(args: readonly string[]): Request {
  const values = parse(args);
  if (values.help) return { kind: 'help' };
  const without = oneOf('--without', values.without, Object.keys(ALL_RULES) as (keyof GroupRules)[]);
  if (values.mutations) return { kind: 'mutations', without, short: values.short };
  if (values.short) throw usage('--short goes with --mutations');
  if (values.seed !== undefined && values.seeds !== undefined) throw usage('either --seed or --seeds');
  const troubles = values.troubles?.split(',').map((name) => oneOf('--troubles', name, TROUBLES));
  const minReplicas = oneOf('--min-replicas', values['min-replicas'], ['1', '2']);
  return {
    kind: 'trials',
    seeds: values.seeds === undefined ? one(number('--seed', values.seed ?? '1', 0)) : range(values.seeds),
    first: values.first,
    brief: values.brief,
    options: {
      nodes: number('--nodes', values.nodes ?? String(DEFAULT_NODES), 2, 9),
      seconds: number('--seconds', values.seconds ?? String(DEFAULT_SECONDS), 1),
      timeline: values.timeline,
      ...(values.steps === undefined ? {} : { steps: number('--steps', values.steps, 1) }),
      ...(minReplicas === undefined ? {} : { minReplicas: minReplicas === '1' ? 1 : 2 }),
      ...(without === undefined ? {} : { without }),
      ...(troubles === undefined ? {} : { troubles: troubles.filter((trouble) => trouble !== undefined) }),
    },
  };
}

/** The command that runs this seed again. */
export function replayCommand(seed: number, options: Omit<TrialOptions, 'seed'>): string {
  const { nodes, seconds, steps, minReplicas, without, troubles } = options;
  const parts = [`npm run sim -- --seed ${seed} --nodes ${nodes} --seconds ${seconds}`];
  if (steps !== undefined) parts.push(`--steps ${steps}`);
  if (minReplicas !== undefined) parts.push(`--min-replicas ${minReplicas}`);
  if (without !== undefined) parts.push(`--without ${without}`);
  if (troubles !== undefined) parts.push(`--troubles ${troubles.join()}`);
  return [...parts, '--timeline'].join(' ');
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        seed: { type: 'string' },
        seeds: { type: 'string' },
        steps: { type: 'string' },
        nodes: { type: 'string' },
        seconds: { type: 'string' },
        troubles: { type: 'string' },
        'min-replicas': { type: 'string' },
        without: { type: 'string' },
        brief: { type: 'boolean', default: false },
        first: { type: 'boolean', default: false },
        mutations: { type: 'boolean', default: false },
        short: { type: 'boolean', default: false },
        timeline: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error));
  }
}

function usage(message: string): TatamiError {
  return new UsageError(message, { remedy: 'See npm run sim -- --help.' });
}

function oneOf<T extends string>(option: string, value: string | undefined, known: readonly T[]): T | undefined {
  if (value === undefined) return undefined;
  const found = known.find((each) => each === value);
  if (found === undefined) throw usage(`${option}: ${known.join(' ')}; not ${value}`);
  return found;
}

function number(option: string, text: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  const bounds = most === Number.MAX_SAFE_INTEGER ? `from ${least} on` : `from ${least} to ${most}`;
  throw usage(`${option}: a number ${bounds}, not ${text}`);
}

const one = (seed: number): [number, number] => [seed, seed];

function range(text: string): [number, number] {
  const [first = '', last = first, ...rest] = text.split('-');
  if (rest.length > 0) throw usage(`--seeds: A-B, not ${text}`);
  const seeds: [number, number] = [number('--seeds', first, 0), number('--seeds', last, 0)];
  if (seeds[1] < seeds[0]) throw usage(`--seeds: the first is not below the last: ${text}`);
  return seeds;
}
