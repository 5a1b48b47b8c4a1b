/**
 * The composition root of a node with data: wires disk, network, catalog, blocks and metadata groups, and owns the order
 * of start and stop. Start goes up the layers and listens last; stop goes down and flushes on the way.
 */
import { blockMethods, type DamageRecord } from './blocks/block-messages.ts';
import { BlockService } from './blocks/block-service.ts';
import { CountingEngine } from './blocks/counting-engine.ts';
import { PackEngine } from './blocks/pack-engine.ts';
import type { BlockEngine } from './blocks/types.ts';
import type { CancelSignal } from './cancel.ts';
import { connectCatalog } from './catalog/connect.ts';
import { dataNodes } from './catalog/membership.ts';
import { majorityOf } from './catalog/paxos.ts';
import type { CatalogReplica } from './catalog/replica.ts';
import { UsageError } from './errors.ts';
import { blockIdToHex } from './ids.ts';
import type { NodeId } from './ids.ts';
import type { GroupRules } from './meta/group/rules.ts';
import { connectMeta } from './meta/meta-client.ts';
import { MetaService } from './meta/meta-service.ts';
import type { Network } from './net/types.ts';
import { coreReport, openCore, serve, stayInTouch, wiring } from './node-core.ts';
import type { Closers, NodeCoreOptions } from './node-core.ts';
import { Collector } from './upkeep/collector.ts';
import { collectGarbage, type GcResult } from './upkeep/gc.ts';
import { QuietCompaction } from './upkeep/quiet-compaction.ts';
import { Repairer } from './upkeep/repair.ts';
import type { NodeReport } from './upkeep/status.ts';

export interface StartNodeOptions extends NodeCoreOptions {
  readonly reserveBytes?: number;
  /** Tests switch single clauses of the groups' rules off. */
  readonly rules?: GroupRules;
}

export interface RunningNode {
  readonly id: NodeId;
  readonly address: string;
  readonly catalog: CatalogReplica;
  readonly network: Network;
  /** Parts of the node, for checks and tests. */
  readonly engine: BlockEngine;
  readonly blocks: BlockService;
  readonly meta: MetaService;
  readonly repair: Repairer;
  readonly collector: Collector;
  /** Resolves with the reason if the node can no longer serve (its disk failed, a safety rule was broken). */
  readonly failed: Promise<Error>;
  /**
   * Before an orderly end, so that nobody waits for a lease: groups whose primary is here are handed over. Takes a second at
   * most, and nothing where it cannot be. Never rejects.
   */
  leave(): Promise<void>;
  /** Orderly: finishes, flushes, closes. Idempotent. */
  close(): Promise<void>;
}

/** Starts the node whose data is in `directory`. On failure everything that was opened is closed again. */
export function startNode(options: StartNodeOptions): Promise<RunningNode> {
  return wiring(options.log, (closers) => wire(options, closers));
}

async function wire(options: StartNodeOptions, closers: Closers): Promise<RunningNode> {
  const { env, directory, log } = options;
  const core = await openCore(options, closers);
  const { network, catalog } = core;
  const { nodeId, storeId } = core.identity;
  if (catalog.current().nodes.some((node) => node.id === nodeId && node.kind === 'witness')) {
    throw new UsageError(`node ${nodeId} is a witness`, { remedy: 'Start it with `tatami witness`.' });
  }

  const packs = await PackEngine.open({
    disk: env.disk,
    clock: env.clock,
    path: directory.blocksPath,
    storeId,
    log,
    ...(options.reserveBytes === undefined ? {} : { reserveBytes: options.reserveBytes }),
  });
  closers.add(() => packs.close());
  const engine = new CountingEngine(packs);
  const handoff = await env.disk.openKv(directory.handoffPath);
  closers.add(() => handoff.close());
  const { scrub } = packs;
  const onDamage = ({ pool, id, foundAtNs, healed }: DamageRecord): void =>
    core.recorder.damage({ pool, block: blockIdToHex(id), foundAtMs: Number(foundAtNs / 1_000_000n), healed });
  const parts = { self: nodeId, engine, network, catalog, env, kv: handoff, log, scrub, onDamage };
  const blocks = await BlockService.open(parts);
  closers.add(() => blocks.close());
  const { rules } = options;
  const meta = await MetaService.open({
    self: nodeId,
    env,
    network,
    catalog,
    directory,
    log,
    ...(rules === undefined ? {} : { rules }),
  });
  closers.add(() => meta.close());
  const repair = new Repairer({ self: nodeId, engine, blocks, network, catalog, clock: env.clock, kv: handoff, log });
  const collector = new Collector({
    catalog,
    clock: env.clock,
    kv: handoff,
    log,
    servedSeq: (id) =>
      meta.status().find((group) => group.id === id && group.role === 'primary' && group.serving)?.committedSeq,
    fullestPermille: () => fullestPermille(network, catalog, fullPermille(engine)),
    collect: (signal) => collectAsClient(options, catalog, signal),
  });
  closers.add(() => collector.close());
  const tidying = new QuietCompaction({ engine, isBusy: () => blocks.isBusy(), clock: env.clock, log });
  closers.add(() => tidying.close());
  blocks.settledEpochOf = (pool) => repair.settledEpoch(pool);
  closers.add(() => repair.close());
  const { diskId } = await env.disk.space(directory.path);
  network.handle(blockMethods.compact, async () => ({ header: { reclaimedBytes: await engine.compact() } }));

  const news = () => ({ fullPermille: fullPermille(engine), gcGeneration: blocks.gcGeneration() });
  const address = await serve(options, core, undefined, { news, report });
  meta.start();
  await repair.start();
  collector.start();
  tidying.start();
  const primaryOf = () => meta.status().filter((group) => group.role === 'primary');
  await stayInTouch(options, core, address, () => primaryOf().map((group) => group.id), closers);

  function report(): NodeReport {
    const usage = engine.usage();
    const scrubReport = blocks.scrubReport();
    const collected = collector.report();
    return {
      ...coreReport(options, core),
      usedBytes: usage.liveBytes,
      fileBytes: usage.fileBytes,
      freeBytes: usage.freeBytes,
      capacityBytes: usage.capacityBytes,
      diskId,
      blockCount: usage.blockCount,
      damage: blocks.damageLog().map(damageReport),
      ...(scrubReport === undefined ? {} : { scrub: scrubReport }),
      ...(collected === undefined ? {} : { collection: collected }),
      handoffCount: blocks.pendingCopies(),
      readBytes: engine.readBytes,
      writtenBytes: engine.writtenBytes,
      groups: meta.status(),
      repair: repair.report(),
    };
  }

  /** The others must be able to decide without this node: else nobody is helped. */
  async function leave(): Promise<void> {
    const others = catalog.current().voters.filter((voter) => voter !== nodeId);
    const up = others.filter((voter) => network.peer(voter).state === 'up').length;
    if (up >= majorityOf(catalog.current().voters.length)) await meta.leave();
  }

  const close = () => closers.closeAll();
  return {
    id: nodeId,
    address,
    catalog,
    network,
    engine,
    blocks,
    meta,
    repair,
    collector,
    failed: Promise.race([meta.failed, core.removed]),
    leave,
    close,
  };
}

function damageReport({
  pool,
  id,
  foundAtNs,
  healed,
  healedAtNs,
  foundBy,
}: DamageRecord): NodeReport['damage'][number] {
  return {
    pool,
    id: blockIdToHex(id),
    foundAtMs: Number(foundAtNs / 1_000_000n),
    foundBy,
    healed,
    ...(healedAtNs === undefined ? {} : { healedAtMs: Number(healedAtNs / 1_000_000n) }),
  };
}

function fullestPermille(network: Network, catalog: CatalogReplica, own: number): number {
  const others = dataNodes(catalog.current()).map(({ id }) => network.peer(id).news?.fullPermille ?? 0);
  return Math.max(own, ...others);
}

/** A node has no connection to itself, and it sweeps itself as well: so it collects as any client does. */
async function collectAsClient(
  { env, key, log }: StartNodeOptions,
  catalog: CatalogReplica,
  signal: CancelSignal,
): Promise<GcResult> {
  const seeds = dataNodes(catalog.current()).map(({ address }) => address);
  const client = await connectCatalog({ env, seeds, key, log, label: 'garbage collection' });
  try {
    const meta = await connectMeta({ env, ...client, log, label: 'garbage collection' });
    try {
      return await collectGarbage({ ...client, meta, dryRun: false, signal });
    } finally {
      await meta.close();
    }
  } finally {
    await client.close();
  }
}

function fullPermille(engine: CountingEngine): number {
  const { freeBytes, capacityBytes } = engine.usage();
  return capacityBytes <= 0 ? 1000 : Math.round((1 - freeBytes / capacityBytes) * 1000);
}
