/**
 * One walk through the blocks of a pool that this node holds: asks their wanted holders, a batch at a time, whether they have
 * them, plans (repair-plan.ts), and copies what they lack. Blocks of which one copy is left are copied as they are found,
 * all others after the last of these has been, so that what is most endangered is never behind what is less so.
 *
 * A block may have copies enough and only not where they belong, as when a node has joined. With `onlyScarce` such are left
 * for later: then all nodes are asked about what a wanted holder lacks, as it may be on any of them. Else they are about what
 * seems to have too few copies: how many there are says what is urgent, and is told (`isScarce`).
 */
import { IDS_PER_MESSAGE_MAX, blockMethods, parseHasReply } from '../blocks/block-messages.ts';
import type { BlockService } from '../blocks/block-service.ts';
import type { BlockEngine } from '../blocks/types.ts';
import type { CancelSignal } from '../cancel.ts';
import { wantedCopies } from '../catalog/placement.ts';
import type { Clock } from '../env.ts';
import type { BlockId, NodeId } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS } from '../limits.ts';
import type { Network } from '../net/types.ts';
import { onlyTheScarce, planCopies, whomElseToAsk, whomToAsk } from './repair-plan.ts';
import type { CopyWork, HeldBlock, RepairPlan, RepairView } from './repair-plan.ts';

/** Blocks that are looked at together: a question of some 35 KiB to each node, and little to remember. */
const BATCH_COUNT = 1_000;
/** Copies that wait for those that are more urgent; further ones are found again by the next walk. Some 10 MiB. */
const BACKLOG_MAX_COUNT = 50_000;
/** Copies on their way at once: they keep the disks busy. */
const COPIES_AT_ONCE = 4;
/** The part of its time that a copier works while somebody else waits for the disk. */
export const REPAIR_SHARE_WHEN_BUSY = 0.15;

export interface WalkOptions {
  readonly engine: Pick<BlockEngine, 'list'>;
  readonly blocks: Pick<BlockService, 'copyTo' | 'oweTo' | 'isBusy'>;
  readonly network: Pick<Network, 'call'>;
  readonly clock: Clock;
  readonly signal: CancelSignal;
  readonly onScanned: (count: number) => void;
  readonly onCopied: (task: CopyWork) => void;
  /** The walk has found copies that are to be made and that this node sees to; it makes them if it can. */
  readonly onFound: (tasks: readonly CopyWork[]) => void;
}

export interface WalkRule {
  /** All blocks of the pool where absent. */
  readonly wants?: (id: BlockId) => boolean;
  /** Of what is planned, what is done in this walk. All where absent. */
  readonly selects?: (work: CopyWork) => boolean;
  /** Only blocks of which too few copies are on nodes that are up. */
  readonly onlyScarce?: boolean;
}

export interface WalkResult {
  /** Blocks that lack a copy at one of their wanted holders, whoever sees to it, as it was before this walk copied any. */
  readonly missing: Amount;
  /** What this node had to see to and has neither copied nor put on the list of what it owes. */
  readonly open: Amount;
  /** Of these, the copies of blocks that have too few. */
  readonly scarce: Amount;
  /** Of what this node would have to see to: copies left for later, as there are enough. */
  readonly postponed: Amount;
}

export interface Amount {
  readonly count: number;
  readonly bytes: number;
}

/** Of the copies, those of blocks that have too few. */
export function scarceOf(tasks: readonly CopyWork[]): Amount {
  const scarce = tasks.filter(({ isScarce }) => isScarce);
  return { count: scarce.length, bytes: bytesOf(scarce) };
}

export function sumOf(a: Amount, b: Amount): Amount {
  return { count: a.count + b.count, bytes: a.bytes + b.bytes };
}

/** The `settledEpoch` that each node named when it was asked last is noted in `settled`. */
export async function walkPool(
  options: WalkOptions,
  view: RepairView,
  settled: Map<NodeId, number>,
  rule: WalkRule = {},
): Promise<WalkResult> {
  const { engine, signal } = options;
  const { wants, selects, onlyScarce = false } = rule;
  const missing = { count: 0, bytes: 0 };
  const open = { count: 0, bytes: 0 };
  let scarce: Amount = { count: 0, bytes: 0 };
  const postponed = { count: 0, bytes: 0 };
  const backlog: CopyWork[] = [];
  const addOpen = (tasks: readonly CopyWork[]): void => {
    open.count += tasks.length;
    open.bytes += bytesOf(tasks);
    scarce = sumOf(scarce, scarceOf(tasks));
  };
  const look = async (batch: readonly HeldBlock[]): Promise<void> => {
    const plan = await planOf(options, view, batch, settled, onlyScarce);
    postponed.count += plan.postponed.length;
    postponed.bytes += bytesOf(plan.postponed);
    missing.count += plan.missingCount;
    missing.bytes += plan.missingBytes;
    const work = selects === undefined ? plan.work : plan.work.filter(selects);
    options.onFound(work);
    const isUrgent = ({ copies }: CopyWork): boolean => copies === 1;
    addOpen(await copyAll(options, view, work.filter(isUrgent)));
    const rest = work.filter((task) => !isUrgent(task));
    const room = BACKLOG_MAX_COUNT - backlog.length;
    backlog.push(...rest.slice(0, room));
    addOpen(rest.slice(room));
    if (!(await options.blocks.oweTo(view.pool.id, plan.owed))) addOpen(plan.owed);
    options.onScanned(batch.length);
    signal.throwIfAborted();
  };
  let batch: HeldBlock[] = [];
  for await (const { id, lengthBytes, generation } of engine.list(view.pool.id)) {
    if (wants?.(id) === false) continue;
    batch.push({ id, lengthBytes, generation });
    if (batch.length < BATCH_COUNT) continue;
    await look(batch);
    batch = [];
  }
  if (batch.length > 0) await look(batch);
  backlog.sort((a, b) => a.copies - b.copies);
  addOpen(await copyAll(options, view, backlog));
  return { missing, open, scarce, postponed };
}

async function planOf(
  { network, signal }: WalkOptions,
  view: RepairView,
  batch: readonly HeldBlock[],
  settled: Map<NodeId, number>,
  onlyScarce: boolean,
): Promise<RepairPlan> {
  const holders = batch.map(() => new Set<NodeId>());
  const silent = new Set<NodeId>();
  const holdersOf = (index: number): ReadonlySet<NodeId> => holders[index] ?? new Set();
  // Whoever did not answer is as one that is away, for now.
  const now: RepairView = { ...view, viewOf: (node) => (silent.has(node) ? 'away' : view.viewOf(node)) };
  const ask = async (node: NodeId, indexes: readonly number[]): Promise<void> => {
    try {
      for (let at = 0; at < indexes.length; at += IDS_PER_MESSAGE_MAX) {
        const part = indexes.slice(at, at + IDS_PER_MESSAGE_MAX);
        const header = { pool: view.pool.id, ids: part.map((index) => batch[index]?.id) };
        const reply = await network.call(node, blockMethods.has, header, { timeoutMs: ATTEMPT_TIMEOUT_MS, signal });
        parseHasReply(reply.header, part.length).forEach((length, index) => {
          if (length !== null) holders[part[index] ?? 0]?.add(node);
        });
        settled.set(node, settledIn(reply.header));
      }
    } catch {
      silent.add(node);
    }
  };
  const whom = whomToAsk(view, batch);
  const before = new Map(settled);
  await Promise.all([...whom].map(([node, indexes]) => ask(node, indexes)));
  // Who has settled just now may have made copies after their new holders were asked.
  const isNew = ([node, epoch]: [NodeId, number]): boolean =>
    epoch >= view.pool.placementEpoch && (before.get(node) ?? 0) < epoch;
  if ([...settled].some(isNew)) await Promise.all([...whom].map(([node, indexes]) => ask(node, indexes)));
  // Copies that are not where they belong count as well: for what is scarce, and for who sees to a block that looks alone.
  const below = onlyScarce ? Infinity : Math.max(1, wantedCopies(view.catalog, view.pool) - 1);
  const others = whomElseToAsk(now, batch, holdersOf, whom, below);
  await Promise.all([...others].map(([node, indexes]) => ask(node, indexes)));
  const plan = planCopies(now, batch, holdersOf);
  return onlyScarce ? onlyTheScarce(now, plan) : plan;
}

/** Those that could not be made. */
async function copyAll(options: WalkOptions, view: RepairView, work: readonly CopyWork[]): Promise<CopyWork[]> {
  const { blocks, clock, signal } = options;
  const failed: CopyWork[] = [];
  const queue = work.values();
  const lanes = Array.from({ length: Math.min(COPIES_AT_ONCE, work.length) }, async () => {
    for (const task of queue) {
      signal.throwIfAborted();
      const startMs = clock.monotonicMs();
      if (await blocks.copyTo(task.to, view.pool, task.id, task.generation)) options.onCopied(task);
      else failed.push(task);
      if (blocks.isBusy()) {
        const tookMs = clock.monotonicMs() - startMs;
        await clock.sleep((tookMs * (1 - REPAIR_SHARE_WHEN_BUSY)) / REPAIR_SHARE_WHEN_BUSY, signal);
      }
    }
  });
  await Promise.all(lanes);
  return failed;
}

export function bytesOf(tasks: readonly CopyWork[]): number {
  return tasks.reduce((sum, task) => sum + task.lengthBytes, 0);
}

function settledIn(header: unknown): number {
  const { settledEpoch } = header as { settledEpoch?: unknown };
  return typeof settledEpoch === 'number' ? settledEpoch : 0;
}
