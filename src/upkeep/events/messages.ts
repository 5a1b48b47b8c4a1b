/** The call `event.list`: what a node has in its history, or the next of it as soon as there is something. */
import { z } from 'zod';
import { FormatError, UsageError } from '../../errors.ts';
import { parseEventRecord } from './event.ts';
import type { EventRecord } from './event.ts';

export const EVENT_LIST = 'event.list';
/** Events in one reply: some 100 KiB. */
export const EVENTS_PER_REPLY_MAX = 500;
/** A question is held this long at most while there is nothing. */
export const EVENT_WAIT_MAX_MS = 30_000;

export interface EventListRequest {
  /** The history that `after` is a position of; in another one it counts as 0. */
  readonly log: string | null;
  /** Null: none of what there is, only where it ends. */
  readonly after: number | null;
  /** Earlier ones are left out. */
  readonly sinceMs: number;
  /** How long to wait for the next one where there is none. */
  readonly waitMs: number;
}

export interface EventListReply {
  readonly log: string;
  readonly events: readonly EventRecord[];
  /** Where to go on. */
  readonly next: number;
  /** There is more already. */
  readonly more: boolean;
}

const count = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const requestSchema = z.object({
  log: z.string().max(64).nullable(),
  after: count.nullable(),
  sinceMs: count,
  waitMs: z.number().nonnegative().max(EVENT_WAIT_MAX_MS),
});
const replySchema = z.object({ log: z.string().max(64), events: z.array(z.unknown()), next: count, more: z.boolean() });

/** Throws UsageError. */
export function parseEventListRequest(header: unknown): EventListRequest {
  const parsed = requestSchema.safeParse(header);
  if (!parsed.success) throw new UsageError('not a usable question for events');
  return parsed.data;
}

/** Throws FormatError. */
export function parseEventListReply(header: unknown): EventListReply {
  const parsed = replySchema.safeParse(header);
  if (!parsed.success) throw new FormatError('a node told its events in a form that is not known here');
  return { ...parsed.data, events: parsed.data.events.map(parseEventRecord) };
}
