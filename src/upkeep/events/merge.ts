/** Records of many nodes made one sequence of events. Pure. */
import type { EventRecord } from './event.ts';

/** In order, each event once: as the node has it that saw it first. */
export function mergeEvents(records: Iterable<EventRecord>): EventRecord[] {
  const first = new Map<string, EventRecord>();
  for (const record of records) {
    const known = first.get(record.id);
    if (known === undefined || isEarlier(record, known)) first.set(record.id, record);
  }
  return inOrder([...first.values()]);
}

/**
 * By time, as far as clocks of several nodes can be believed: what the catalog says stays in the order of its epochs, and what
 * was seen under a catalog does not come before that catalog.
 */
function inOrder(records: readonly EventRecord[]): EventRecord[] {
  const epochs = new Map<number, number>();
  for (const { by, epoch, atMs } of records) if (by === undefined) epochs.set(epoch, atMs);
  const steps = [...epochs].sort(([a], [b]) => a - b);
  /** When each epoch was decided, never before the one before it. */
  let latestMs = 0;
  const decided = steps.map(([epoch, atMs]) => ({ epoch, atMs: (latestMs = Math.max(latestMs, atMs)) }));
  const placed = records.map((record) => {
    const catalog = decided.findLast(({ epoch }) => epoch <= record.epoch);
    return { record, atMs: Math.max(record.atMs, catalog?.atMs ?? 0) };
  });
  placed.sort((a, b) => {
    if (a.atMs !== b.atMs) return a.atMs - b.atMs;
    if (a.record.epoch !== b.record.epoch) return a.record.epoch - b.record.epoch;
    if ((a.record.by === undefined) !== (b.record.by === undefined)) return a.record.by === undefined ? -1 : 1;
    return isEarlier(a.record, b.record) ? -1 : 1;
  });
  return placed.map(({ record }) => record);
}

/** A total order, so that all who ask agree. */
function isEarlier(a: EventRecord, b: EventRecord): boolean {
  if (a.atMs !== b.atMs) return a.atMs < b.atMs;
  return `${a.by ?? ''} ${a.id}` < `${b.by ?? ''} ${b.id}`;
}

/** Which events were there already. */
export class SeenEvents {
  readonly #ids = new Set<string>();
  readonly #maxCount: number;

  constructor(maxCount: number) {
    this.#maxCount = maxCount;
  }

  /** True the first time. */
  isNew(id: string): boolean {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    const [oldest] = this.#ids;
    if (this.#ids.size > this.#maxCount && oldest !== undefined) this.#ids.delete(oldest);
    return true;
  }
}
