/**
 * Changes of the cluster's membership by command: what a client asks a node for, as only nodes propose changes of the
 * catalog; and how a client asks.
 */
import { Buffer } from 'node:buffer';
import { proposeUntilChosen } from '../catalog/replica.ts';
import type { CatalogReplica } from '../catalog/replica.ts';
import type { Catalog, CatalogChange, CatalogService } from '../catalog/types.ts';
import { FormatError, PeerUnreachableError, TimeoutError, UnavailableError } from '../errors.ts';
import type { NodeId } from '../ids.ts';
import { META_TIMEOUT_MS } from '../limits.ts';
import type { IncomingRequest, Network } from '../net/types.ts';

export const membershipMethods = {
  setDraining: 'node.setDraining',
  remove: 'node.remove',
  setRepairAfter: 'node.setRepairAfter',
  setBalancePaused: 'node.setBalancePaused',
  setCollectEvery: 'node.setCollectEvery',
} as const;

/** All are done once, however often they are asked for: what is so already is no error. */
export function handleMembership(network: Network, catalog: CatalogReplica): void {
  const decided = async (decide: (current: Catalog) => CatalogChange | undefined) => {
    const { epoch } = await proposeUntilChosen(catalog, decide, META_TIMEOUT_MS);
    return { header: { epoch } };
  };
  network.handle(membershipMethods.setDraining, (request) => {
    const id = nodeIdOf(request);
    const draining = fieldsOf(request)['draining'] === true;
    return decided(({ nodes }) => {
      const isSo = nodes.some((node) => node.id === id && (node.draining === true) === draining);
      return isSo ? undefined : { kind: 'setDraining', id, draining };
    });
  });
  network.handle(membershipMethods.remove, (request) => {
    const id = nodeIdOf(request);
    return decided(({ removed = [] }) =>
      removed.some((node) => node.id === id) ? undefined : { kind: 'removeNode', id },
    );
  });
  network.handle(membershipMethods.setRepairAfter, (request) => {
    const { afterMs } = fieldsOf(request);
    if (afterMs !== null && typeof afterMs !== 'number') throw new FormatError(`${request.method}: afterMs is missing`);
    return decided(({ repairAfterMs }) =>
      repairAfterMs === afterMs ? undefined : { kind: 'setRepairAfter', afterMs },
    );
  });
  network.handle(membershipMethods.setBalancePaused, (request) => {
    const paused = fieldsOf(request)['paused'] === true;
    return decided(({ balancePaused }) =>
      (balancePaused === true) === paused ? undefined : { kind: 'setBalancePaused', paused },
    );
  });
  network.handle(membershipMethods.setCollectEvery, (request) => {
    const { everyMs } = fieldsOf(request);
    if (everyMs !== null && typeof everyMs !== 'number') throw new FormatError(`${request.method}: everyMs is missing`);
    return decided(({ collectEveryMs }) =>
      collectEveryMs === everyMs ? undefined : { kind: 'setCollectEvery', everyMs },
    );
  });
}

function fieldsOf({ header, method }: IncomingRequest): Readonly<Record<string, unknown>> {
  if (typeof header === 'object' && header !== null) return header as Record<string, unknown>;
  throw new FormatError(`${method}: not a message of this protocol`);
}

function nodeIdOf(request: IncomingRequest): NodeId {
  const { id } = fieldsOf(request);
  if (typeof id === 'string' && id.length <= 64) return id as NodeId;
  throw new FormatError(`${request.method}: id must be the name of a node`);
}

/** What a client has. */
export interface Asking {
  readonly network: Network;
  readonly catalog: CatalogService;
}

/** Begins or ends a node's draining. Resolves once the catalog says so, and is known here. */
export function setDraining(asking: Asking, id: NodeId, draining: boolean): Promise<void> {
  return ask(asking, membershipMethods.setDraining, { id, draining }, id);
}

/** Takes a node out. The catalog refuses one that serves; whether data would be lost is asked before (removal.ts). */
export function removeNode(asking: Asking, id: NodeId): Promise<void> {
  return ask(asking, membershipMethods.remove, { id }, id);
}

/** How long a node may be down until its blocks get their copies elsewhere, in milliseconds; null: for ever. */
export function setRepairAfter(asking: Asking, afterMs: number | null): Promise<void> {
  return ask(asking, membershipMethods.setRepairAfter, { afterMs });
}

/** Whether copies are made only where there are too few of them. */
export function setBalancePaused(asking: Asking, paused: boolean): Promise<void> {
  return ask(asking, membershipMethods.setBalancePaused, { paused });
}

/** How often blocks that no file uses are freed by themselves, in milliseconds; null: never. */
export function setCollectEvery(asking: Asking, everyMs: number | null): Promise<void> {
  return ask(asking, membershipMethods.setCollectEvery, { everyMs });
}

/** Asks one node after the other, the one that it is about last. Resolves once what came of it is known here. */
export async function ask(asking: Asking, method: string, header: unknown, about?: NodeId): Promise<void> {
  const { network, catalog } = asking;
  const rank = (id: NodeId): number => (network.peer(id).state === 'down' ? 2 : 0) + (id === about ? 1 : 0);
  const nodes = catalog.current().nodes.map((node) => node.id);
  const failures: unknown[] = [];
  for (const node of [...nodes].sort((a, b) => rank(a) - rank(b))) {
    try {
      const reply = await network.call(node, method, header, { timeoutMs: META_TIMEOUT_MS });
      const { epoch } = (reply.header ?? {}) as { epoch?: unknown };
      await known(asking, typeof epoch === 'number' ? epoch : 0);
      return;
    } catch (error) {
      if (!(error instanceof PeerUnreachableError || error instanceof TimeoutError)) throw error;
      failures.push(error);
    }
  }
  throw new UnavailableError('no node answers', {
    cause: failures[0],
    remedy: 'Start the nodes first; `tatami status` shows them.',
  });
}

/** The newer catalog rides on the reply; it is here a moment later. Should that node go before it came, the voters have it. */
async function known({ catalog }: Asking, epoch: number): Promise<void> {
  if (catalog.current().epoch >= epoch) return;
  let unsubscribe = (): void => undefined;
  const arrived = new Promise<void>((resolve) => {
    unsubscribe = catalog.subscribe((now) => {
      if (now.epoch >= epoch) resolve();
    });
  });
  try {
    await Promise.race([arrived, catalog.confirm(META_TIMEOUT_MS)]);
  } finally {
    unsubscribe();
  }
}

/** A name or key for what is made anew: 16 hexadecimal digits. */
export function drawHex(random: { bytes(count: number): Uint8Array }): string {
  return Buffer.from(random.bytes(8)).toString('hex');
}
