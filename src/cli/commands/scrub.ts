import type { ScrubReport } from '../../blocks/scrubber.ts';
import { connectCatalog, type CatalogClient } from '../../client.ts';
import type { Env } from '../../env.ts';
import { CancelledError, UnavailableError, UsageError } from '../../errors.ts';
import type { PoolId } from '../../ids.ts';
import { MiB } from '../../limits.ts';
import { damageOf, type NamedDamage } from '../../upkeep/damage.ts';
import { askScrubbers, nodesToScrub, watchScrubs, type ScrubAnswer, type WatchedPass } from '../../upkeep/scrub.ts';
import { collectStatus } from '../../upkeep/status.ts';
import { clientLabel } from '../client-label.ts';
import { findCluster, type WhereOptions } from '../cluster-files.ts';
import { damageJson, damageLines, withNames } from '../damage-lines.ts';
import { EXIT } from '../exit-codes.ts';
import { listenForInterruption } from '../interruption.ts';
import { bytes, note, print, printJson, progress, table } from '../output.ts';
import { realEnv } from '../real-env.ts';
import { ago, duration, until } from '../times.ts';

const DAY_MS = 24 * 3600 * 1000;
/** What a row of the index counts as in a scrub's progress. */
const ROW_COST_BYTES = 16 * 1024;

export interface ScrubCommandOptions extends WhereOptions {
  readonly now?: boolean;
  readonly wait?: boolean;
  readonly node?: string;
  readonly pool?: string;
  readonly everyDays?: number;
  readonly rateMib?: number;
  readonly json?: boolean;
}

export async function scrub(options: ScrubCommandOptions): Promise<void> {
  if (options.pool !== undefined && options.now !== true) {
    throw new UsageError('--pool needs --now: the scheduled scrub goes over all pools', {
      remedy: 'Add --now, or leave --pool away.',
    });
  }
  const where = await findCluster(options);
  const env = realEnv(where.key);
  const client = await connectCatalog({ env, ...where, label: clientLabel('tatami scrub') });
  try {
    const nodes = nodesToScrub(client, options.node);
    const pool = options.pool === undefined ? null : poolOf(client, options.pool);
    const { everyDays, rateMib } = options;
    if (everyDays !== undefined || rateMib !== undefined) {
      const settings = {
        ...(everyDays === undefined ? {} : { periodMs: Math.round(everyDays * DAY_MS) }),
        ...(rateMib === undefined ? {} : { bytesPerSecond: rateMib * MiB }),
      };
      insist(await askScrubbers(client, nodes, { action: 'configure', settings }));
    }
    const request = options.now === true ? ({ action: 'start', pool } as const) : ({ action: 'report' } as const);
    const answers = insist(await askScrubbers(client, nodes, request));
    if (options.wait === true) await wait(client, env, options, answers);
    else if (options.json === true) printJson(answers.map(answerJson));
    else show(answers, options.now === true);
  } finally {
    await client.close();
  }
}

function poolOf(client: CatalogClient, name: string): PoolId {
  const { pools } = client.catalog.current();
  const found = pools.find((pool) => pool.name === name);
  if (found !== undefined) return found.id;
  throw new UsageError(`there is no pool ${name}`, {
    remedy: `The pools are ${pools.map((one) => one.name).join(', ')}.`,
  });
}

/** Somebody must have answered; who did not is told of. */
function insist(answers: readonly ScrubAnswer[]): readonly ScrubAnswer[] {
  if (answers.every(({ reply }) => reply === undefined)) {
    throw new UnavailableError(
      `no node answers: ${answers.map(({ node, reason }) => `${node}: ${reason}`).join('; ')}`,
      {
        remedy: 'Start the nodes first.',
      },
    );
  }
  for (const { node, reply, reason } of answers) {
    if (reply === undefined) {
      note(`${node} does not answer (${reason}); it is left out`);
      process.exitCode = EXIT.unhealthy;
    }
  }
  return answers;
}

function show(answers: readonly ScrubAnswer[], wasStarted: boolean): void {
  print(
    table(
      ['node', 'last scrub', 'blocks', 'found', 'mended', 'now', 'every', 'at most'],
      answers.map(({ node, reply, reason }) => {
        if (reply === undefined) return [node, '-', '-', '-', '-', reason ?? 'no answer', '-', '-'];
        const { report } = reply;
        const { lastFull, settings } = report;
        return [
          node,
          lastFull === null ? 'never' : ago(lastFull.finishedAtMs),
          lastFull?.blockCount ?? '-',
          lastFull?.foundCount ?? '-',
          lastFull?.healedCount ?? '-',
          nowText(report),
          settings.periodMs === 0 ? 'only when asked' : duration(settings.periodMs),
          `${bytes(settings.bytesPerSecond)}/s`,
        ];
      }),
    ),
  );
  if (wasStarted)
    print('\nThe nodes are at it; `tatami scrub --wait` waits for them, `tatami status` shows how far they are.');
}

function nowText({ running, waiting, nextAtMs }: ScrubReport): string {
  if (running !== null) {
    const part = Math.min(100, Math.floor((running.doneBytes * 100) / Math.max(1, running.totalBytes)));
    return `${part}%${running.foundCount > 0 ? `, ${running.foundCount} found` : ''}`;
  }
  if (waiting.length > 0) return 'about to begin';
  return nextAtMs === null ? '-' : `next ${until(nextAtMs)}`;
}

function answerJson({ node, reply, reason }: ScrubAnswer) {
  return { node, pass: reply?.pass ?? null, reason: reason ?? null, ...reply?.report };
}

async function wait(
  client: CatalogClient,
  env: Env,
  options: ScrubCommandOptions,
  answers: readonly ScrubAnswer[],
): Promise<void> {
  const passes = answers.flatMap(({ node, reply }): WatchedPass[] => {
    const pass = reply?.pass ?? reply?.report.waiting.at(-1)?.id ?? reply?.report.running?.id;
    return pass === undefined ? [] : [{ node, pass }];
  });
  const interruption = listenForInterruption();
  const before = await collectStatus(client);
  const watched = new Set<string>(passes.map(({ node }) => node));
  const totalBytes = before.nodes
    .filter(({ id }) => watched.has(id))
    .reduce(
      (sum, { report }) => sum + (report === undefined ? 0 : report.fileBytes + report.blockCount * ROW_COST_BYTES),
      0,
    );
  const bar = progress('scrub', totalBytes, bytes);
  const { clock } = env;
  const { signal } = interruption;
  try {
    const ended = await watchScrubs({ ...client, clock, signal }, passes, ({ doneBytes }) => bar.update(doneBytes));
    bar.end();
    await tell(client, options, ended);
  } catch (error) {
    bar.end();
    if (!signal.aborted) throw error;
    note('The scrub goes on at the nodes; `tatami scrub` shows how far it is.');
    throw new CancelledError('interrupted', { cause: error });
  } finally {
    interruption.end();
  }
}

async function tell(client: CatalogClient, options: ScrubCommandOptions, ended: readonly WatchedPass[]): Promise<void> {
  const status = await collectStatus(client);
  const since = new Map<string, number>(ended.map(({ node, summary }) => [node, summary?.startedAtMs ?? Infinity]));
  const found = damageOf(status).filter((one) => wasChangedSince(one, since.get(one.node) ?? Infinity));
  const { damage, unnamed } = await withNames(options, found);
  if (options.json === true) printJson({ nodes: ended, damage: damage.map(damageJson), unnamed: unnamed ?? null });
  else {
    for (const { node, summary, reason } of ended) {
      if (summary === undefined) print(`${node}: not finished: ${reason ?? 'unknown'}`);
      else {
        const { blockCount, blockBytes, foundCount, healedCount, indexFaultCount, startedAtMs, finishedAtMs } = summary;
        const index = indexFaultCount > 0 ? '; its index was damaged and was made anew' : '';
        print(
          `${node}: ${blockCount} blocks (${bytes(blockBytes)}) checked in ${duration(finishedAtMs - startedAtMs)}, ` +
            `${foundCount} damaged, ${healedCount} mended${index}`,
        );
      }
    }
    for (const line of damageLines(damage)) print(line);
    if (unnamed !== undefined) note(`the files cannot be named now: ${unnamed}`);
  }
  if (ended.some(({ summary }) => summary === undefined)) process.exitCode = EXIT.unavailable;
  else if (damage.some((one) => !one.healed)) process.exitCode = EXIT.unhealthy;
}

function wasChangedSince({ foundAtMs, healedAtMs }: NamedDamage, sinceMs: number): boolean {
  return Math.max(foundAtMs, healedAtMs ?? 0) >= sinceMs;
}
