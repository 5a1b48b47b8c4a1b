/**
 * What happened, and what happens, as one sequence over the histories of all nodes.
 *
 * Each node is asked for its own history, from where the last answer ended; the question is held there until there is
 * something new. So nothing is lost while a node is away (it goes on where it was), what any node saw is told, and what
 * several saw is told once, by the event's id.
 */
import type { CatalogService } from '../../catalog/types.ts';
import { wallMs } from '../../env.ts';
import type { Clock } from '../../env.ts';
import type { NodeId } from '../../ids.ts';
import type { Network } from '../../net/types.ts';
import { askNodes } from '../ask-nodes.ts';
import type { Answer } from '../ask-nodes.ts';
import type { EventRecord } from './event.ts';
import { SeenEvents, mergeEvents } from './merge.ts';
import { EVENT_LIST, parseEventListReply } from './messages.ts';
import type { EventListRequest } from './messages.ts';

/** One answer of one node. */
const LIST_TIMEOUT_MS = 2_000;
/** A question is held by the node for this long. */
const WAIT_MS = 10_000;
/** A node that did not answer is asked again. */
const AGAIN_MS = 500;
/** Ids of what was told: what a node that was away for long brings late is known by them. Some 100 bytes each. */
const SEEN_MAX_COUNT = 50_000;
/** What the reader has not taken yet; beyond it nodes are not asked further, they keep it. */
const QUEUE_MAX_COUNT = 1_000;

export interface FeedContext {
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current' | 'subscribe'>;
  readonly clock: Clock;
}

interface Position {
  readonly log: string | null;
  readonly after: number | null;
}

const START: Position = { log: null, after: 0 };

export interface PastEvents {
  readonly events: readonly EventRecord[];
  /** Nodes whose history is missing, and why. */
  readonly missing: ReadonlyMap<NodeId, string>;
}

/** What the nodes remember since then, in order. */
export async function pastEvents(context: FeedContext, sinceMs: number): Promise<PastEvents> {
  const { answers } = await askAll(context, sinceMs, START);
  const all = [...answers.values()].flatMap((answer) => (answer.kind === 'answer' ? answer.value.events : []));
  const missing = new Map<NodeId, string>();
  for (const [node, answer] of answers) if (answer.kind !== 'answer') missing.set(node, reasonOf(answer));
  return { events: mergeEvents(all), missing };
}

function reasonOf(answer: Exclude<Answer<unknown>, { kind: 'answer' }>): string {
  if (answer.kind === 'doubtful') return 'it does not answer';
  return answer.error instanceof Error ? answer.error.message : String(answer.error);
}

interface Told {
  readonly events: readonly EventRecord[];
  readonly position: Position;
}

async function askAll(context: FeedContext, sinceMs: number, from: Position) {
  const nodes = context.catalog.current().nodes.map(({ id }) => id);
  const answers = await askNodes(context, nodes, async (node): Promise<Told> => {
    const events: EventRecord[] = [];
    for (let position = from; ;) {
      const reply = await list(context, node, { ...position, sinceMs, waitMs: 0 }, LIST_TIMEOUT_MS);
      events.push(...reply.events);
      position = { log: reply.log, after: reply.next };
      if (!reply.more) return { events, position };
    }
  });
  return { answers };
}

async function list(
  context: FeedContext,
  node: NodeId,
  request: EventListRequest,
  timeoutMs: number,
  signal?: AbortSignal,
) {
  const options = { timeoutMs, ...(signal === undefined ? {} : { signal }) };
  const reply = await context.network.call(node, EVENT_LIST, request, options);
  return parseEventListReply(reply.header);
}

export interface FollowOptions {
  /** Milliseconds since the Unix epoch: what happened from then on comes first. Undefined: only what happens from now on. */
  readonly sinceMs?: number | undefined;
  readonly signal: AbortSignal;
}

/** Ends when the signal fires, and only then. */
export async function* followEvents(context: FeedContext, options: FollowOptions): AsyncGenerator<EventRecord, void> {
  const follower = new Follower(context, options);
  try {
    yield* follower.begin(options.sinceMs === undefined ? { log: null, after: null } : START);
    while (!options.signal.aborted) {
      const event = await follower.next();
      if (event !== undefined) yield event;
    }
  } finally {
    follower.close();
  }
}

class Follower {
  readonly #context: FeedContext;
  readonly #sinceMs: number;
  /** Of what the catalog says only later epochs: a node that was away may hear of earlier ones now. */
  readonly #afterEpoch: number;
  readonly #closing = new AbortController();
  readonly #seen = new SeenEvents(SEEN_MAX_COUNT);
  readonly #queue: EventRecord[] = [];
  readonly #asking = new Set<NodeId>();
  readonly #positions = new Map<NodeId, Position>();
  readonly #outer: AbortSignal;
  readonly #onAbort = (): void => this.close();
  #unsubscribe: () => void = () => undefined;
  #wakeReader: (() => void) | undefined;
  #wakeAskers: (() => void)[] = [];

  constructor(context: FeedContext, { sinceMs, signal }: FollowOptions) {
    this.#context = context;
    this.#sinceMs = sinceMs ?? wallMs(context.clock);
    this.#afterEpoch = sinceMs === undefined ? context.catalog.current().epoch : 0;
    this.#outer = signal;
    signal.addEventListener('abort', this.#onAbort, { once: true });
    if (signal.aborted) this.close();
  }

  /** What there is already, in order; from then on all nodes are asked for what comes. */
  async *begin(from: Position): AsyncGenerator<EventRecord, void> {
    const { answers } = await askAll(this.#context, this.#sinceMs, from);
    const events: EventRecord[] = [];
    for (const [node, answer] of answers) {
      if (answer.kind !== 'answer') continue;
      this.#positions.set(node, answer.value.position);
      events.push(...answer.value.events);
    }
    for (const event of mergeEvents(events)) {
      if (this.#closing.signal.aborted) return;
      if (this.#seen.isNew(event.id)) yield event;
    }
    this.#unsubscribe = this.#context.catalog.subscribe(() => this.#askNewNodes());
    this.#askNewNodes();
  }

  /** Undefined when it was closed. */
  async next(): Promise<EventRecord | undefined> {
    while (this.#queue.length === 0 && !this.#closing.signal.aborted) {
      await new Promise<void>((resolve) => (this.#wakeReader = resolve));
    }
    if (this.#closing.signal.aborted) return undefined;
    const event = this.#queue.shift();
    if (this.#queue.length < QUEUE_MAX_COUNT) for (const wake of this.#wakeAskers.splice(0)) wake();
    return event;
  }

  close(): void {
    this.#outer.removeEventListener('abort', this.#onAbort);
    this.#closing.abort();
    this.#unsubscribe();
    this.#wakeReader?.();
    for (const wake of this.#wakeAskers.splice(0)) wake();
  }

  #askNewNodes(): void {
    for (const { id } of this.#context.catalog.current().nodes) {
      if (this.#asking.has(id) || this.#closing.signal.aborted) continue;
      this.#asking.add(id);
      void this.#askOn(id).finally(() => this.#asking.delete(id));
    }
  }

  /** Until the node is out of the catalog. */
  async #askOn(node: NodeId): Promise<void> {
    const { signal } = this.#closing;
    const isMember = (): boolean => this.#context.catalog.current().nodes.some(({ id }) => id === node);
    while (!signal.aborted && isMember()) {
      try {
        // Of one that could not be asked at the start: what it has seen since then, by its clock. Else its position says it.
        const position = this.#positions.get(node);
        const from = position === undefined ? { ...START, sinceMs: this.#sinceMs } : { ...position, sinceMs: 0 };
        const request = { ...from, waitMs: WAIT_MS };
        const reply = await list(this.#context, node, request, WAIT_MS + LIST_TIMEOUT_MS, signal);
        this.#positions.set(node, { log: reply.log, after: reply.next });
        this.#offer(reply.events);
        if (this.#queue.length >= QUEUE_MAX_COUNT) await new Promise<void>((wake) => this.#wakeAskers.push(wake));
      } catch {
        // It is down, or of a version that keeps no events: it is asked again.
        await this.#context.clock.sleep(AGAIN_MS, signal).catch(() => undefined);
      }
    }
  }

  #offer(events: readonly EventRecord[]): void {
    const isWanted = ({ by, epoch, atMs }: EventRecord): boolean =>
      by !== undefined || (epoch > this.#afterEpoch && (this.#afterEpoch > 0 || atMs >= this.#sinceMs));
    for (const event of mergeEvents(events.filter(isWanted))) {
      if (this.#seen.isNew(event.id)) this.#queue.push(event);
    }
    this.#wakeReader?.();
  }
}
