/**
 * What happens in a cluster, as records that every node can keep: what the catalog decided, who was found to be up or down,
 * damage that a node found. Pure.
 *
 * An event's id says what happened and not who saw it, so records of several nodes about one thing are one event.
 */
import { z } from 'zod';
import type { Catalog } from '../../catalog/types.ts';
import { FormatError } from '../../errors.ts';
import type { NodeId } from '../../ids.ts';
import type { MemberState, MemberView } from '../../net/membership/board.ts';

/**
 * What kinds of events there are; later versions may add some.
 *
 * - `node-up`: a node was started, or answers again. `node-suspect`: it does not answer; it may be slow, cut off or dead.
 *   `node-down`: it is held to be dead, or said that it stops (`details.reason`: `failed` or `stopped`).
 * - `node-joined`, `node-removed`, `node-changed`, `node-draining`, `node-out` (down for too long: its
 *   blocks get their copies elsewhere; or back): in the catalog; a witness is a node.
 * - `promotion`: another node is primary of a group. `appointment`: a node has become secondary. `secondary-dropped`: the
 *   group goes on without one. `group-epoch`: the same members in a new epoch, as after a restart of the primary.
 *   `group-forced`: an operator made another copy the group's.
 * - `voters-changed`. `pool-created` (`details.settings`) and `pool-changed` (`details.changes`): in words. `balance-paused`, or not any more.
 * - `damage-found`: a copy of a block did not match its hash. `damage-mended`: it was made good from another node.
 */
export type EventKind =
  | 'node-up'
  | 'node-suspect'
  | 'node-down'
  | 'node-joined'
  | 'node-removed'
  | 'node-changed'
  | 'node-draining'
  | 'node-out'
  | 'promotion'
  | 'appointment'
  | 'secondary-dropped'
  | 'group-epoch'
  | 'group-forced'
  | 'voters-changed'
  | 'pool-created'
  | 'pool-changed'
  | 'balance-paused'
  | 'damage-found'
  | 'damage-mended';

/** As it is kept and sent. Besides these fields it has those that its kind has. */
export interface EventRecord {
  readonly id: string;
  readonly kind: EventKind;
  /** Milliseconds since the Unix epoch: when it was decided, or when `by` saw it. */
  readonly atMs: number;
  /** Of the catalog: the one that brought it, or the one at hand when it was seen. */
  readonly epoch: number;
  /** The node that saw it; absent where the catalog says it. */
  readonly by?: string;
  readonly [detail: string]: unknown;
}

const detail = z.union([z.string().max(1024), z.number(), z.boolean(), z.array(z.string().max(255)).max(64)]);
const recordSchema = z
  .object({
    id: z.string().min(1).max(255),
    kind: z.string().min(1).max(32),
    atMs: z.number().int().nonnegative().max(8.64e15),
    epoch: z.number().int().nonnegative(),
    by: z.string().max(64).optional(),
  })
  .catchall(detail);

/** Checks a record from wire or disk. Throws FormatError. */
export function parseEventRecord(value: unknown): EventRecord {
  const parsed = recordSchema.safeParse(value);
  if (!parsed.success) throw new FormatError('not an event');
  return parsed.data as EventRecord;
}

/** What the catalog remembers of the epochs after `afterEpoch`. */
export function catalogEvents(catalog: Catalog, afterEpoch: number): EventRecord[] {
  return (catalog.recent ?? []).flatMap(({ epoch, atMs, facts }) => {
    if (epoch <= afterEpoch || atMs === undefined || facts === undefined) return [];
    return facts.map((fact, index) => ({ ...fact, id: `catalog/${epoch}/${index}`, atMs, epoch }));
  });
}

export interface Seen {
  readonly by: NodeId;
  readonly atMs: number;
  readonly epoch: number;
}

/**
 * What a change of a node's view of another (or of itself) tells; undefined: nothing. That a node is alive says only
 * something if it was not before: or else a node that starts would report all the others.
 */
export function memberEvent(now: MemberView, before: MemberState | undefined, seen: Seen): EventRecord | undefined {
  const { node, incarnation, state } = now;
  const make = (kind: EventKind, details: object = {}): EventRecord => ({
    id: `${kind}/${node}/${incarnation}`,
    kind,
    ...seen,
    node,
    ...details,
  });
  switch (state) {
    case 'alive': {
      const isOwnStart = node === seen.by && before === undefined;
      const isBack = node !== seen.by && before !== undefined && before !== 'alive';
      return isOwnStart || isBack ? make('node-up') : undefined;
    }
    case 'suspect':
      return node === seen.by ? undefined : make('node-suspect');
    case 'dead':
      return node === seen.by ? undefined : make('node-down', { reason: 'failed' });
    case 'left':
      return make('node-down', { reason: 'stopped' });
  }
}

export interface Damage {
  readonly pool: number;
  /** Hexadecimal. */
  readonly block: string;
  readonly foundAtMs: number;
  readonly healed: boolean;
}

export function damageEvent({ pool, block, foundAtMs, healed }: Damage, seen: Seen): EventRecord {
  const kind = healed ? 'damage-mended' : 'damage-found';
  return { id: `${kind}/${seen.by}/${pool}/${block}/${foundAtMs}`, kind, ...seen, node: seen.by, pool, block };
}

/** In words, without the time. */
export function eventInWords(event: EventRecord): string {
  const text = (name: string): string => {
    const value = event[name];
    return typeof value === 'string' || typeof value === 'number' ? String(value) : '?';
  };
  const node = text('node');
  const group = `group ${text('group')}`;
  const inEpoch = `(epoch ${text('groupEpoch')})`;
  switch (event.kind) {
    case 'node-up':
      return `node ${node} is up`;
    case 'node-suspect':
      return `node ${node} does not answer`;
    case 'node-down':
      return event['reason'] === 'stopped' ? `node ${node} was stopped` : `node ${node} is down`;
    case 'node-joined':
      return `${event['witness'] === true ? 'witness' : 'node'} ${node} joined at ${text('address')}`;
    case 'node-removed':
      return `node ${node} was removed`;
    case 'node-changed':
      return `node ${node} changed its entry in the catalog (address ${text('address')})`;
    case 'node-draining':
      return `node ${node} ${event['draining'] === true ? 'is being drained' : 'takes data again'}`;
    case 'node-out':
      return event['out'] === true
        ? `node ${node} is down for too long: its blocks get their copies elsewhere`
        : `node ${node} is back: it takes data again`;
    case 'promotion':
      return `${node} is primary of ${group} ${inEpoch}, after ${text('from')}`;
    case 'appointment':
      return `${node} is secondary of ${group} ${inEpoch}${event['from'] === undefined ? '' : `, after ${text('from')}`}`;
    case 'secondary-dropped':
      return `${node} is secondary of ${group} no longer ${inEpoch}`;
    case 'group-epoch':
      return `${group} goes on with the same members ${inEpoch}, primary ${node}`;
    case 'group-forced':
      return `${group} was forced: it goes on with the copy of ${node} ${inEpoch}`;
    case 'voters-changed':
      return `the voters are ${list(event['voters'])}`;
    case 'pool-created':
      return `pool ${text('pool')} was made${afterColon(event['settings'])}`;
    case 'pool-changed':
      return `pool ${text('pool')} was changed${afterColon(event['changes'])}`;
    case 'balance-paused':
      return event['paused'] === true ? 'balancing was paused' : 'balancing goes on';
    case 'damage-found':
      return `node ${node} found a damaged copy of block ${text('block').slice(0, 16)}`;
    case 'damage-mended':
      return `node ${node} mended its copy of block ${text('block').slice(0, 16)}`;
    default:
      return `${String(event.kind)}${event['node'] === undefined ? '' : ` of ${node}`}`;
  }
}

function afterColon(value: unknown): string {
  return Array.isArray(value) ? `: ${value.join(', ')}` : '';
}

function list(value: unknown): string {
  return Array.isArray(value) ? value.join(' ') : '?';
}
