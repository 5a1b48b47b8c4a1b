/** Events as programs get them: over a connection that needs no metadata to be served. */
import type { CatalogClient } from './catalog/connect.ts';
import { eventInWords } from './upkeep/events/event.ts';
import type { EventKind, EventRecord } from './upkeep/events/event.ts';
import { followEvents, pastEvents } from './upkeep/events/feed.ts';

export type { EventKind } from './upkeep/events/event.ts';

/** Something that happened in a cluster. */
export interface ClusterEvent {
  /** Names it: the same whoever tells it, never used again. */
  readonly id: string;
  /** What happened. */
  readonly kind: EventKind;
  /** When: by the clock of the node that decided or saw it. */
  readonly at: Date;
  /** Epoch of the catalog: the one that brought it, or the one at hand when it was seen. */
  readonly epoch: number;
  /** In words, without the time. */
  readonly text: string;
  /** The node it is about, if it is about one. */
  readonly node?: string;
  /** The group, if it is about one. */
  readonly group?: string;
  /** The node that saw it; absent where the catalog says it. Others may see things otherwise, if they are cut off. */
  readonly seenBy?: string;
  /** What else its kind has, for example `groupEpoch`, `from`, `voters`, `address`, `reason`. */
  readonly details: Readonly<Record<string, unknown>>;
}

export function toClusterEvent(record: EventRecord): ClusterEvent {
  const { id, kind, atMs, epoch, by, node, group, ...details } = record;
  return {
    id,
    kind,
    at: new Date(atMs),
    epoch,
    text: eventInWords(record),
    ...(typeof node === 'string' ? { node } : {}),
    ...(typeof group === 'string' ? { group } : {}),
    ...(by === undefined ? {} : { seenBy: by }),
    details,
  };
}

export interface EventsWish {
  readonly since?: Date | undefined;
  readonly follow: boolean;
  readonly signal: AbortSignal;
  /** Told of nodes whose history is missing from what happened before, and why. */
  readonly onMissing?: (node: string, reason: string) => void;
}

/** Ends after what is known, or when the signal fires. */
export async function* clusterEvents(client: CatalogClient, wish: EventsWish): AsyncGenerator<ClusterEvent, void> {
  // 1970-01-01 in the local time of half the world is before the beginning.
  const sinceMs = wish.since === undefined ? undefined : Math.max(0, wish.since.getTime());
  if (wish.follow) {
    for await (const record of followEvents(client, { sinceMs, signal: wish.signal })) yield toClusterEvent(record);
    return;
  }
  const { events, missing } = await pastEvents(client, sinceMs ?? 0);
  for (const [node, reason] of missing) wish.onMissing?.(node, reason);
  for (const record of events) {
    if (wish.signal.aborted) return;
    yield toClusterEvent(record);
  }
}
