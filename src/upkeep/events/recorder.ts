/** A node's part: writes down what it hears of, and tells it to whoever asks. */
import type { CancelSignal } from '../../cancel.ts';
import type { CatalogService } from '../../catalog/types.ts';
import { wallMs } from '../../env.ts';
import type { Env } from '../../env.ts';
import type { NodeId } from '../../ids.ts';
import type { HandlerReply, IncomingRequest, Network } from '../../net/types.ts';
import { catalogEvents, damageEvent, memberEvent } from './event.ts';
import type { Damage, EventRecord, Seen } from './event.ts';
import type { EventLog } from './event-log.ts';
import { EVENTS_PER_REPLY_MAX, EVENT_LIST, parseEventListRequest } from './messages.ts';
import type { EventListReply, EventListRequest } from './messages.ts';

export interface RecorderOptions {
  readonly env: Pick<Env, 'clock'>;
  readonly network: Network;
  readonly catalog: CatalogService;
  readonly self: NodeId;
  readonly history: EventLog;
}

export class EventRecorder {
  readonly #o: RecorderOptions;
  #catalogEpoch: number;

  /** Call before `network.listen`. */
  constructor(options: RecorderOptions) {
    this.#o = options;
    const { network, catalog, history, self } = options;
    this.#catalogEpoch = history.lastCatalogEpoch;
    catalog.subscribe(() => this.#takeCatalog());
    network.onMember((now, before) => this.#append(memberEvent(now, before, this.#seen())));
    network.handle(EVENT_LIST, (request) => this.#list(request));
    this.#takeCatalog();
    // Held of itself since its address book was filled.
    const own = network.members.view(self);
    if (own !== undefined) this.#append(memberEvent(own, undefined, this.#seen()));
  }

  damage(found: Damage): void {
    const seen = this.#seen();
    this.#append(damageEvent(found, found.healed ? seen : { ...seen, atMs: found.foundAtMs }));
  }

  #seen(): Seen {
    const { env, self, catalog } = this.#o;
    return { by: self, atMs: wallMs(env.clock), epoch: catalog.current().epoch };
  }

  #append(event: EventRecord | undefined): void {
    if (event !== undefined) this.#o.history.append([event]);
  }

  #takeCatalog(): void {
    const current = this.#o.catalog.current();
    this.#o.history.append(catalogEvents(current, this.#catalogEpoch));
    this.#catalogEpoch = current.epoch;
  }

  async #list(request: IncomingRequest): Promise<HandlerReply> {
    const asked = parseEventListRequest(request.header);
    const first = this.#answer(asked);
    if (first.next !== asked.after || first.log !== asked.log || asked.waitMs === 0) return { header: first };
    await this.#next(Math.min(asked.waitMs, request.deadlineMs - this.#o.env.clock.monotonicMs()), request.signal);
    return { header: this.#answer(asked) };
  }

  #answer({ log, after, sinceMs }: EventListRequest): EventListReply {
    const { history } = this.#o;
    if (after === null) return { log: history.id, events: [], next: history.lastSeq, more: false };
    const from = log === history.id ? after : 0;
    const found = history.after(from, EVENTS_PER_REPLY_MAX);
    const next = found.at(-1)?.seq ?? Math.min(from, history.lastSeq);
    const events = found.map(({ event }) => event).filter(({ atMs }) => atMs >= sinceMs);
    return { log: history.id, events, next, more: next < history.lastSeq };
  }

  #next(waitMs: number, signal: CancelSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = (): void => {
        timer.cancel();
        takeBack();
        signal.removeEventListener('abort', finish);
        resolve();
      };
      const timer = this.#o.env.clock.setTimer(Math.max(0, waitMs), finish);
      const takeBack = this.#o.history.onNext(finish);
      signal.addEventListener('abort', finish, { once: true });
      if (signal.aborted) finish();
    });
  }
}
