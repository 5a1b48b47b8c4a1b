/** From rounds to what the report says of each measure: medians, ratios, whether the goal is reached, and the costs. */
import { median, spread } from '../measure.ts';
import type { Results, Round } from './compare.ts';
import { costOf } from './costs.ts';
import type { Cost, PartCost } from './costs.ts';
import type { PeerKind, Step } from './types.ts';

export const OURS = 'tatamifs';
const COPIES = 2;
/** A filesystem that has synced has told the disk to write every copy; metadata and rounding aside. */
const SYNCED_SHARE = 0.95;
/** An empty filesystem's read costs the kernel's half of the work; ours may cost as much again. */
const EMPTY_SHARE = 0.5;

interface Measure {
  readonly name: string;
  readonly unit: 'MB/s' | '/s';
  /** Times the better peer. */
  readonly peerGoal: number | undefined;
  /** Times min(raw disk, 0.5 x empty mount). */
  readonly machineGoal?: number;
}

export const MEASURES: Readonly<Record<Step, Measure>> = {
  write: { name: 'sequential write + fsync', unit: 'MB/s', peerGoal: 1 },
  read: { name: 'cold sequential read', unit: 'MB/s', peerGoal: 1.5, machineGoal: 0.9 },
  read4: { name: 'cold 4-way read', unit: 'MB/s', peerGoal: 1.5, machineGoal: 0.9 },
  random: { name: 'cold random 4 KiB read', unit: '/s', peerGoal: 1.5 },
  randomLater: { name: '  4 KiB at random, the next 3 s', unit: '/s', peerGoal: 1.5 },
  create: { name: 'create+write+close 4 KiB', unit: '/s', peerGoal: 1.5 },
  createLater: { name: '  create, as many again', unit: '/s', peerGoal: 1.5 },
  list: { name: 'cold list: readdir + stat', unit: '/s', peerGoal: 1.5 },
  listLater: { name: '  list, as many again', unit: '/s', peerGoal: 1.5 },
  readSmall: { name: 'cold open+read+close 4 KiB', unit: '/s', peerGoal: 1.5 },
  readSmallAgain: { name: '  the same once more', unit: '/s', peerGoal: undefined },
  readSmallLater: { name: '  open+read+close, as many again', unit: '/s', peerGoal: 1.5 },
  unlink: { name: 'unlink', unit: '/s', peerGoal: 1 },
  unlinkLater: { name: '  unlink, as many again', unit: '/s', peerGoal: 1 },
};

export interface Figure {
  readonly value: number;
  readonly spread: readonly [number, number];
}

export interface Against {
  readonly name: string;
  /** Median of the rounds' ratios. */
  readonly ratio: number;
  readonly goal: number | undefined;
}

export interface Line {
  readonly step: Step;
  readonly name: string;
  readonly unit: 'MB/s' | '/s';
  /** By the system's name, ours first. */
  readonly figures: Readonly<Record<string, Figure>>;
  readonly raw: Figure | undefined;
  readonly empty: Figure | undefined;
  /** In each round the better of those that count. */
  readonly peer: Against | undefined;
  readonly machine: Against | undefined;
  readonly costs: Readonly<Record<string, Cost>>;
}

export interface Summary {
  readonly lines: readonly Line[];
  /** By system: bytes that the disk was told to write until fsync returned, over the bytes that the program wrote. */
  readonly syncedShare: Readonly<Record<string, number | undefined>>;
  /** The most that the host gave to others during a step, and the most that went to nobody's account: shares of all processors. */
  readonly stolen: number;
  readonly rest: number;
}

/** What is asked of a system here. */
export type Kind = Pick<PeerKind, 'name' | 'isMount'>;

export function summarize(all: readonly Kind[], rounds: readonly Round[], sizeBytes: number): Summary {
  const names = all.map(({ name }) => name);
  const syncedShare = Object.fromEntries(names.map((name) => [name, shareOnDisk(rounds, name, sizeBytes)]));
  const syncing = new Set(names.filter((name) => syncs(syncedShare[name])));
  const steps = Object.keys(MEASURES) as Step[];
  const lines = steps.map((step): Line => {
    const { name, unit, peerGoal, machineGoal } = MEASURES[step];
    const ours = valuesOf(rounds, (round) => round.systems[OURS], step);
    const peers = names.filter((other) => other !== OURS && (step !== 'write' || syncing.has(other)));
    const theirs = peers.map((other) => valuesOf(rounds, (round) => round.systems[other], step));
    const better = rounds.map((_, index) => Math.max(...theirs.map((values) => values[index] ?? NaN)));
    const raw = valuesOf(rounds, (round) => round.raw, step);
    const empty = valuesOf(rounds, (round) => round.empty, step);
    const least = raw.map((value, index) => Math.min(value, EMPTY_SHARE * (empty[index] ?? NaN)));
    return {
      step,
      name,
      unit,
      figures: Object.fromEntries(
        all.map((kind) => [kind.name, figure(valuesOf(rounds, (round) => round.systems[kind.name], step))]),
      ),
      raw: raw.length === 0 ? undefined : figure(raw),
      empty: empty.length === 0 ? undefined : figure(empty),
      peer:
        peers.length === 0
          ? undefined
          : { name: nameOfBetter(peers, theirs), ratio: ratioOf(ours, better), goal: peerGoal },
      machine:
        machineGoal === undefined
          ? undefined
          : { name: `min(raw, ${EMPTY_SHARE} x empty)`, ratio: ratioOf(ours, least), goal: machineGoal },
      costs: Object.fromEntries(all.map((kind) => [kind.name, medianCost(rounds, kind, step)])),
    };
  });
  const costs = lines.flatMap((line) => Object.values(line.costs));
  const most = (of: (cost: Cost) => number): number => Math.max(0, ...costs.map(of));
  return { lines, syncedShare, stolen: most((cost) => cost.stolen), rest: most((cost) => cost.rest) };
}

export function syncs(share: number | undefined): boolean {
  return share !== undefined && share >= COPIES * SYNCED_SHARE;
}

function shareOnDisk(rounds: readonly Round[], name: string, sizeBytes: number): number | undefined {
  const shares = rounds.flatMap(({ systems }) => {
    const result = systems[name]?.write;
    const before = result?.before.writtenBytes;
    const after = result?.after.writtenBytes;
    return before === undefined || after === undefined ? [] : [(after - before) / sizeBytes];
  });
  return shares.length === 0 ? undefined : median(shares);
}

function valuesOf(rounds: readonly Round[], of: (round: Round) => Results | undefined, step: Step): number[] {
  return rounds.flatMap((round) => of(round)?.[step]?.value ?? []);
}

function figure(values: readonly number[]): Figure {
  return { value: median(values), spread: spread(values) };
}

function ratioOf(ours: readonly number[], yardstick: readonly number[]): number {
  return median(ours.map((value, index) => value / (yardstick[index] ?? NaN)));
}

function nameOfBetter(peers: readonly string[], values: readonly (readonly number[])[]): string {
  const medians = values.map(median);
  return peers[medians.indexOf(Math.max(...medians))] ?? '';
}

function medianCost(rounds: readonly Round[], kind: Kind, step: Step): Cost {
  const costs = rounds.flatMap(({ systems }) => {
    const result = systems[kind.name]?.[step];
    return result === undefined ? [] : [costOf(result, kind.isMount)];
  });
  const of = (number: (cost: Cost) => number): number => median(costs.map(number));
  const part = (of1: (cost: Cost) => PartCost): PartCost => ({
    totalMs: of((cost) => of1(cost).totalMs),
    systemMs: of((cost) => of1(cost).systemMs),
  });
  const share = of((cost) => cost.busiest.share);
  const middle = costs.find((cost) => cost.busiest.share >= share) ?? costs[0];
  return {
    mount: part((cost) => cost.mount),
    servers: part((cost) => cost.servers),
    worker: part((cost) => cost.worker),
    restMs: of((cost) => cost.restMs),
    rest: of((cost) => cost.rest),
    busy: of((cost) => cost.busy),
    stolen: of((cost) => cost.stolen),
    busiest: { part: middle?.busiest.part ?? 'server', share },
  };
}
