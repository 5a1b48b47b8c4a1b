/** The newest entries of a log, in memory, as many as fit. Pure. Entries follow each other by seq without a gap. */
import type { LogEntry } from './log-record.ts';

/** What an entry takes beside its command. */
export const ENTRY_OVERHEAD_BYTES = 120;
/** Slots before the first entry are given back when they are this many, and more than half. */
const SLACK_COUNT = 1_024;

export class RecentEntries {
  /** In order; those before #first are gone. */
  #slots: (LogEntry | undefined)[] = [];
  #first = 0;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }
  /** Seq of the oldest; undefined while there is none. */
  get firstSeq(): number | undefined {
    return this.#slots[this.#first]?.seq;
  }

  get(seq: number): LogEntry | undefined {
    const firstSeq = this.firstSeq;
    return firstSeq === undefined || seq < firstSeq ? undefined : this.#slots[this.#first + seq - firstSeq];
  }

  /** Adds the entry that follows the last one. */
  add(entry: LogEntry): void {
    this.#slots.push(entry);
    this.#bytes += entryBytes(entry);
  }

  /** Forgets the oldest until `maxBytes` are not exceeded, but none after `keepAfterSeq`. */
  shrink(maxBytes: number, keepAfterSeq: number): void {
    while (this.#bytes > maxBytes) {
      const entry = this.#slots[this.#first];
      if (entry === undefined || entry.seq > keepAfterSeq) break;
      this.#slots[this.#first++] = undefined;
      this.#bytes -= entryBytes(entry);
    }
    if (this.#first >= SLACK_COUNT && this.#first > this.#slots.length / 2) {
      this.#slots.splice(0, this.#first);
      this.#first = 0;
    }
  }

  /** Forgets all after `seq`. */
  truncateAfter(seq: number): void {
    for (;;) {
      const last = this.#slots.at(-1);
      if (last === undefined || last.seq <= seq) break;
      this.#slots.pop();
      this.#bytes -= entryBytes(last);
    }
  }

  clear(): void {
    this.#slots = [];
    this.#first = 0;
    this.#bytes = 0;
  }
}

export function entryBytes(entry: LogEntry): number {
  return entry.command.length + ENTRY_OVERHEAD_BYTES;
}
