/**
 * Renews blocks that the nodes have: what a put of present blocks does, for many at once and without their bytes. Whoever
 * then names them in the metadata (a clone) may count on the receipts as on those of a put: garbage collection leaves the
 * copies alone whose stamps it raised, see docs/decisions/0003-gc-generations.md.
 *
 * A block is asked for at the nodes that should hold it and, while too few of these have it, at those further on in its
 * order, where substitutes stand. One message a node and round, whatever the number of blocks up to a bound.
 */
import type { CancelSignal } from '../cancel.ts';
import { dataNodes } from '../catalog/membership.ts';
import { findPool, placementOf, wantedCopies } from '../catalog/placement.ts';
import type { CatalogService } from '../catalog/types.ts';
import { UnavailableError } from '../errors.ts';
import type { BlockId, NodeId, PoolId } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS } from '../limits.ts';
import type { Network } from '../net/types.ts';
import { blockMethods, IDS_PER_MESSAGE_MAX, parseRenewReply } from './block-messages.ts';
import { SYNCHRONOUS_COPIES } from './block-writer.ts';
import type { PutReceipt } from './types.ts';

export interface RenewalPorts {
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current'>;
}

/** One block on its way to a receipt. */
interface Renewal {
  readonly id: BlockId;
  /** Whom to ask, best first. */
  readonly order: readonly NodeId[];
  asked: number;
  /** Of the nodes that have it. */
  readonly stamps: number[];
}

/**
 * A receipt for each block, in the order given; undefined where fewer nodes answered that they have it than a put needs.
 *
 * @throws UnavailableError if the pool is unknown; CancelledError
 */
export async function renewBlocks(
  ports: RenewalPorts,
  poolId: PoolId,
  ids: readonly BlockId[],
  options: { readonly signal?: CancelSignal | undefined; readonly minGeneration?: number | undefined } = {},
): Promise<(PutReceipt | undefined)[]> {
  const catalog = ports.catalog.current();
  const pool = findPool(catalog, poolId);
  if (pool === undefined) throw new UnavailableError(`pool ${poolId} is not in the catalog (epoch ${catalog.epoch})`);
  // As many as a put of this pool waits for. Where so many cannot be asked, a put knows better whom it may leave out.
  const needed = Math.max(1, Math.min(SYNCHRONOUS_COPIES, pool.copies, dataNodes(catalog).length));
  const step = Math.max(needed, wantedCopies(catalog, pool));
  const renewals = ids.map((id): Renewal => ({ id, order: placementOf(catalog, pool, id), asked: 0, stamps: [] }));
  for (;;) {
    const lacking = renewals.filter(({ stamps, order, asked }) => stamps.length < needed && asked < order.length);
    if (lacking.length === 0) break;
    const questions = new Map<NodeId, Renewal[]>();
    for (const renewal of lacking) {
      for (const node of renewal.order.slice(renewal.asked, renewal.asked + step)) {
        const others = questions.get(node);
        if (others === undefined) questions.set(node, [renewal]);
        else others.push(renewal);
      }
      renewal.asked += step;
    }
    await Promise.all([...questions].map(([node, some]) => renewAt(ports, node, poolId, some, options)));
    options.signal?.throwIfAborted();
  }
  return renewals.map(({ id, stamps }) => {
    // The best of those that have it: nodes beyond the needed ones may have missed a collection's beginning.
    const generation = stamps.sort((a, b) => b - a)[needed - 1];
    return generation === undefined ? undefined : { id, generation };
  });
}

/** Never rejects: a node that does not answer has nothing. */
async function renewAt(
  { network }: RenewalPorts,
  node: NodeId,
  pool: PoolId,
  renewals: readonly Renewal[],
  {
    signal,
    minGeneration = 0,
  }: { readonly signal?: CancelSignal | undefined; readonly minGeneration?: number | undefined },
): Promise<void> {
  if (network.peer(node).state === 'down') return;
  for (let at = 0; at < renewals.length; at += IDS_PER_MESSAGE_MAX) {
    const part = renewals.slice(at, at + IDS_PER_MESSAGE_MAX);
    const header = { pool, ids: part.map(({ id }) => id), minGeneration };
    try {
      const options = { timeoutMs: ATTEMPT_TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) };
      const reply = await network.call(node, blockMethods.renew, header, options);
      const { present, generation } = parseRenewReply(reply.header, part.length);
      for (const [index, { stamps }] of part.entries()) if (present[index] === true) stamps.push(generation);
    } catch {
      return;
    }
  }
}
