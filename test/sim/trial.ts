/**
 * One seed: a whole cluster under a nemesis, with clients that contend, and everything that is checked of it. Replayed
 * by the same seed: `npm run sim -- --seed N`.
 */
import { COLLECT_EVERY_MIN_MS } from '../../src/catalog/collection.ts';
import { ALL_RULES } from '../../src/meta/group/rules.ts';
import type { GroupRules } from '../../src/meta/group/rules.ts';
import { hostOf } from '../../src/testing.ts';
import { checkLinearizable } from './check/linearizable.ts';
import type { Model } from './check/linearizable.ts';
import type { Operation } from './check/history.ts';
import { namesModel } from './check/names-model.ts';
import { registerModel } from './check/register-model.ts';
import { SimCluster } from './cluster.ts';
import { Arena, Contender, openUncached, readEnd } from './contenders.ts';
import { Monitors } from './monitors.ts';
import type { Violation } from './monitors.ts';
import { DEPOSING, Nemesis, TROUBLES } from './nemesis.ts';
import type { Trouble } from './nemesis.ts';
import { PowerLedger } from './power.ts';
import { SimRandom } from './random.ts';
import { Timeline } from './timeline.ts';
import { Workload, type WorkloadOptions } from './workload.ts';

export interface TrialOptions {
  readonly seed: number;
  /** Where nodes join, some of them do not from the beginning. */
  readonly nodes: number;
  /** Virtual time, at least; faults end before. */
  readonly seconds: number;
  /** Operations of all clients together, after which they make pauses of a second. */
  readonly steps?: number;
  /** Default: drawn. */
  readonly troubles?: readonly Trouble[];
  /** Mutation: without this clause. */
  readonly without?: keyof GroupRules;
  /** Default: drawn. */
  readonly minReplicas?: 1 | 2;
  /** Keep what the nodes said. */
  readonly timeline?: boolean;
  /** End as soon as a rule is seen broken, without looking at the rest. */
  readonly untilViolated?: boolean;
}

export interface TrialResult {
  readonly seed: number;
  /** What was violated; empty: all in order. */
  readonly violations: readonly Violation[];
  readonly virtualMs: number;
  readonly operationCount: number;
  readonly unknownCount: number;
  readonly failoverCount: number;
  readonly troubles: ReadonlyMap<Trouble, number>;
  readonly eventCount: number;
  readonly digest: string;
  readonly timeline: Timeline | undefined;
}

/** Where others join later. */
const LEAST_NODES = 3;
const CLIENTS = 3;
const DIRECTORIES = 3;
const REGISTERS = 2;
/** The last part of a run is free of faults. */
const CALM_FRACTION = 0.25;
/** All clients make progress again this long after the last fault has ended: broken connections are noticed after 4 s. */
const RECOVERY_MS = 20_000;
const PROGRESS_COUNT = 5;
/** A node that ended by itself is started again. */
const STOPPED_MS = 1_000;
const WRITER_PREFIX = 'file';
const FURNISH_LIMIT_MS = 30_000;

/** Ends a run whose rest nobody wants to see. */
class RuleBroken extends Error {}

export async function runTrial(options: TrialOptions): Promise<TrialResult> {
  const { seed, nodes, seconds } = options;
  const random = new SimRandom(seed).fork('trial');
  const drift = random.chance(0.25) ? random.between(0, 0.15) : 0.0005;
  const drawn = random.chance(0.2) ? 1 : 2;
  const minReplicas = options.minReplicas ?? drawn;
  const writesNow = random.chance(0.5);
  // From streams of their own: one more kind of trouble does not change what is drawn where the kinds are given.
  const drawnTroubles = drawTroubles(random.fork('troubles'));
  const troubles = options.troubles ?? drawnTroubles;
  const rules = options.without === undefined ? ALL_RULES : { ...ALL_RULES, [options.without]: false };
  // In some, nodes that are down are left out of placement, and come back.
  const repair = new SimRandom(seed).fork('repair');
  const isShort = options.troubles === undefined && repair.chance(0.4);
  const repairAfterMs = isShort ? 1_000 + repair.below(7_000) : undefined;
  // In some, what no file uses is freed again and again.
  const isCollecting = options.troubles === undefined && new SimRandom(seed).fork('collect').chance(0.4);
  const sim = await SimCluster.start({
    seed,
    nodes: troubles.includes('join') ? nodes - random.below(Math.max(0, nodes - LEAST_NODES) + 1) : nodes,
    rules,
    minReplicas,
    ...(repairAfterMs === undefined ? {} : { repairAfterMs }),
    ...(isCollecting ? { collectEveryMs: COLLECT_EVERY_MIN_MS } : {}),
    writesNow,
    clockError: { offsetMs: 500, drift },
  });
  const { world } = sim;
  const nowMs = (): number => world.time.nowMs;
  const monitors = new Monitors(sim);
  const violations: Violation[] = [];
  const timeline = options.timeline === true ? new Timeline(nowMs) : undefined;
  monitors.onStart = (node) => timeline?.watch(node);
  const ledger = new PowerLedger(sim);
  world.afterEvent = () => {
    monitors.look();
    ledger.look();
  };

  const arena = new Arena({
    directories: DIRECTORIES,
    registers: REGISTERS,
    nowMs,
    // Some are busy, some leave the cluster time.
    pauseMs: 200 * 2 ** random.between(0, 3),
    steps: options.steps ?? Infinity,
  });
  const first = await sim.client();
  await world.settle(arena.furnish(first, openUncached(first)), { limitMs: FURNISH_LIMIT_MS, what: 'the beginning' });
  const contenders: Contender[] = [];
  for (let count = 0; count < CLIENTS; count++) {
    const client = count === 0 ? first : await sim.client();
    const name = sim.latestClient;
    contenders.push(new Contender(name, arena, client, world.envOf(hostOf(name)).clock, random.fork(name)));
  }
  const writes = random.chance(0.3);
  // There is always something to collect, without a change of what is drawn else.
  const writing = writes ? random.fork('writer') : isCollecting ? new SimRandom(seed).fork('collected') : undefined;
  const writer =
    writing === undefined
      ? undefined
      : await startWriter(
          sim,
          writing,
          // What a clone shares must not be swept, nor what a compaction names: only there is it at stake.
          isCollecting
            ? { clones: new SimRandom(seed).fork('clones'), patches: new SimRandom(seed).fork('patches') }
            : {},
        );
  // Whoever may lose all power is promised what was synced, and no more.
  const promise = troubles.includes('blackout') ? 'durable' : 'acknowledged';
  await world.settle(first.meta.sync());
  const isEnough = (): boolean => options.untilViolated === true && monitors.violations.length > 0;
  const nemesis: Nemesis = new Nemesis(sim, random.fork('nemesis'), {
    troubles,
    nodes,
    clients: contenders.map(({ name }) => name),
    // A primary alone acknowledges what only its own memory holds.
    mayLosePower: () => {
      if (promise === 'durable') writer?.lost();
      return promise === 'durable' || (minReplicas === 2 && ledger.mayLose());
    },
    pauseMs: random.between(300, 6_000),
    ...(options.troubles === undefined ? { hasFailedOver: () => monitors.failoverCount > 0 } : {}),
    isEnough,
    note: (text) => timeline?.note(`---- ${text}`),
  });
  monitors.onPush = (from, to) => nemesis.pushed(from, to);
  monitors.onStop = (id) => nemesis.kill(id, STOPPED_MS);
  const totalMs = seconds * 1_000;
  try {
    await nemesis.run(totalMs * (1 - CALM_FRACTION));
    if (isEnough()) throw new RuleBroken();
    const before = contenders.map(({ answeredCount }) => answeredCount);
    const goesOn = (): boolean =>
      contenders.every(({ answeredCount }, index) => answeredCount >= before[index]! + PROGRESS_COUNT);
    await world.runUntil(goesOn, { limitMs: RECOVERY_MS, what: 'progress after the faults' });
    await world.run(Math.max(0, totalMs - nowMs()));
    for (const contender of contenders) contender.stop();
    await world.settle(Promise.all(contenders.map(({ done }) => done)), { what: 'the last operations' });
    await writer?.settled();
    await sim.check();
    await writer?.check(promise);
    await world.settle(readEnd(arena, 'end', first), { what: 'the last look' });
  } catch (error) {
    if (!(error instanceof RuleBroken)) {
      violations.push({ atMs: nowMs(), what: error instanceof Error ? error.message : String(error) });
    }
  }
  const atMs = nowMs();
  violations.push(
    ...monitors.violations,
    ...[...arena.surprises, ...nemesis.surprises].map((what) => ({ atMs, what })),
  );
  for (const { id, error, atMs: stoppedMs } of monitors.stopped) {
    // A log that cannot grow ends its member; what somebody who makes room does is part of the trouble.
    if (!error.message.includes('ENOSPC')) {
      violations.push({ atMs: stoppedMs, what: `${id} stopped: ${error.stack ?? error.message}` });
    }
  }
  if (promise === 'acknowledged') violations.push(...judgeAll(arena));
  const sum = (of: (contender: Contender) => number): number => contenders.reduce((total, each) => total + of(each), 0);
  return {
    seed,
    violations,
    virtualMs: nowMs(),
    operationCount: sum(({ answeredCount }) => answeredCount),
    unknownCount: sum(({ unknownCount }) => unknownCount),
    failoverCount: monitors.failoverCount,
    troubles: nemesis.counts,
    eventCount: world.eventCount,
    digest: world.digest,
    timeline,
  };
}

/** A program that writes files of many blocks, and then finds all that it was promised. */
async function startWriter(sim: SimCluster, random: SimRandom, more: Pick<WorkloadOptions, 'clones' | 'patches'>) {
  const fs = await sim.connect();
  const work = new Workload(fs, sim.world.envOf(hostOf(sim.latestClient)).clock, random, {
    prefix: WRITER_PREFIX,
    pauseMs: random.between(100, 1_500),
    ...more,
  });
  return {
    lost: () => void work.journal.lossCount++,
    async settled(): Promise<void> {
      work.stop();
      // An operation that failed has ended it; what it had been promised before holds.
      await sim.settle(
        work.done.catch(() => undefined),
        { what: 'the writing program', limitMs: 2 * RECOVERY_MS },
      );
    },
    async check(promise: 'acknowledged' | 'durable'): Promise<void> {
      const files = await sim.readAll(await sim.connect());
      const own = [...files].filter(([path]) => path.startsWith(`/${WRITER_PREFIX}`));
      work.journal.check(new Map(own), promise);
    },
  };
}

/** Each seed has some kinds of trouble, and not the others: rare ones are not drowned by frequent ones. */
function drawTroubles(random: SimRandom): Trouble[] {
  const chances: Partial<Record<Trouble, number>> = { ambush: 0.6, blackout: 0.1, join: 0.25 };
  const chosen = new Set(TROUBLES.filter((trouble) => random.chance(chances[trouble] ?? 0.4)));
  chosen.add(DEPOSING[random.below(DEPOSING.length)]!);
  return [...chosen];
}

function judgeAll({ directories, registers }: Arena): Violation[] {
  return [
    ...directories.flatMap(({ history }, index) => judge(`directory ${index}`, namesModel, history.operations)),
    ...registers.flatMap(({ path, history }) => judge(path, registerModel, history.operations)),
  ];
}

function judge<State, Call, Answer>(
  what: string,
  model: Model<State, Call, Answer>,
  operations: readonly Operation<Call, Answer>[],
): Violation[] {
  const verdict = checkLinearizable(model, operations);
  if (verdict.ok) return [];
  const lines = [
    `${what} is not linearizable`,
    ...verdict.explained.slice(-12).map((operation) => `  explained ${describe(operation)}`),
    `  state ${verdict.state}`,
    ...verdict.stuck.map((operation) => `  stuck     ${describe(operation)}`),
  ];
  const atMs = Math.min(...verdict.stuck.map(({ calledMs }) => calledMs));
  return [{ atMs, what: lines.join('\n') }];
}

function describe({ client, call, answer, calledMs, answeredMs }: Operation): string {
  const until = answeredMs === Infinity ? '' : answeredMs.toFixed(1);
  return `${client} ${calledMs.toFixed(1)}-${until} ${JSON.stringify(call)} -> ${JSON.stringify(answer) ?? 'unknown'}`;
}
