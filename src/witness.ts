/**
 * The composition root of a witness: a node that votes on the catalog and holds no data (R10). Two machines with data and a
 * witness on any third one, however small, survive the loss of any one of the three.
 */
import type { CatalogReplica } from './catalog/replica.ts';
import { UsageError } from './errors.ts';
import type { NodeId } from './ids.ts';
import { coreReport, openCore, serve, stayInTouch, wiring } from './node-core.ts';
import type { Closers, NodeCoreOptions } from './node-core.ts';

export interface RunningWitness {
  readonly id: NodeId;
  readonly address: string;
  readonly catalog: CatalogReplica;
  /** Resolves with the reason if it was taken out of the cluster. */
  readonly failed: Promise<Error>;
  /** Orderly. Idempotent. */
  close(): Promise<void>;
}

/** Starts the witness whose data is in `directory`. On failure everything that was opened is closed again. */
export function startWitness(options: NodeCoreOptions): Promise<RunningWitness> {
  return wiring(options.log, (closers) => wire(options, closers));
}

async function wire(options: NodeCoreOptions, closers: Closers): Promise<RunningWitness> {
  const core = await openCore(options, closers);
  const { catalog } = core;
  const { nodeId } = core.identity;
  if (catalog.current().nodes.some((node) => node.id === nodeId && node.kind !== 'witness')) {
    throw new UsageError(`node ${nodeId} is a node with data`, { remedy: 'Start it with `tatami node`.' });
  }
  const address = await serve(options, core, 'witness', {
    news: () => ({ fullPermille: 0, gcGeneration: 0 }),
    report: () => coreReport(options, core),
  });
  await stayInTouch(options, core, address, () => [], closers);
  return { id: nodeId, address, catalog, failed: core.removed, close: () => closers.closeAll() };
}
