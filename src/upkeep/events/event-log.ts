/**
 * A node's memory of what happened: a bounded file of lines, each with its checksum (docs/formats.md), all of it in memory
 * too. It is history, not state: nothing is decided by it, and a disk that does not take it stops nothing.
 */
import { Buffer } from 'node:buffer';
import type { Disk, DiskFile, Random } from '../../env.ts';
import { FormatError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { xxh64 } from '../../xxhash.ts';
import { parseEventRecord } from './event.ts';
import type { EventRecord } from './event.ts';

const EVENT_LOG_FORMAT_VERSION = 1;
/** Some 200 bytes each: under a megabyte, and months of an ordinary cluster. */
export const EVENTS_KEPT_COUNT = 4_096;

export interface LoggedEvent {
  /** Position in this log: 1, 2, ... */
  readonly seq: number;
  readonly event: EventRecord;
}

export interface EventLogOptions {
  readonly disk: Disk;
  readonly random: Random;
  readonly path: string;
  readonly log: Logger;
  readonly keptCount?: number;
}

export class EventLog {
  /** Names this file: positions of another one mean nothing here. */
  readonly id: string;
  readonly #o: EventLogOptions;
  /** Oldest first; the latest, at most twice what is kept. */
  readonly #events: LoggedEvent[] = [];
  readonly #ids = new Set<string>();
  readonly #waiting = new Set<() => void>();
  #lastSeq = 0;
  #file: DiskFile | undefined;
  #fileBytes = 0;
  #lineCount = 0;
  /** Not on disk yet. */
  #unwritten: string[] = [];
  #writing: Promise<void> | undefined;
  #failed = false;

  private constructor(options: EventLogOptions, id: string) {
    this.#o = options;
    this.id = id;
  }

  /** FormatError if it was written by a newer version. Lines that are damaged are passed over. */
  static async open(options: EventLogOptions): Promise<EventLog> {
    const { disk, path, random } = options;
    const lines = (await disk.exists(path)) ? new TextDecoder().decode(await disk.readFile(path)).split('\n') : [];
    const head = readLine(lines[0] ?? '') as { format?: unknown; log?: unknown } | undefined;
    if (typeof head?.format === 'number' && head.format > EVENT_LOG_FORMAT_VERSION) {
      throw new FormatError(`${path} has format ${head.format}; this program knows ${EVENT_LOG_FORMAT_VERSION}`, {
        remedy: 'Run a newer tatamifs on this machine.',
      });
    }
    const known = typeof head?.log === 'string' ? head.log : undefined;
    const made = new EventLog(options, known ?? Buffer.from(random.bytes(8)).toString('hex'));
    for (const line of lines.slice(1)) made.#restore(readLine(line));
    // Begun anew whenever it is opened: whatever an interrupted write has left is gone, and it is short again.
    await made.#rewrite().catch((error: unknown) => made.#complain(error));
    return made;
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** The highest epoch of which it has what the catalog said; 0: none. */
  get lastCatalogEpoch(): number {
    return this.#events.reduce((max, { event }) => (event.by === undefined ? Math.max(max, event.epoch) : max), 0);
  }

  /** What it has already is passed over. */
  append(events: readonly EventRecord[]): void {
    const fresh = events.filter((event) => !this.#ids.has(event.id));
    if (fresh.length === 0) return;
    for (const event of fresh) {
      const logged = { seq: ++this.#lastSeq, event };
      this.#add(logged);
      this.#unwritten.push(lineOf(logged));
    }
    this.#writing ??= this.#write().finally(() => (this.#writing = undefined));
    for (const wake of [...this.#waiting]) wake();
  }

  /** Events after a position, oldest first. */
  after(seq: number, limit: number): readonly LoggedEvent[] {
    // Mostly the latest are asked for.
    let from = this.#events.length;
    while (from > 0 && (this.#events[from - 1]?.seq ?? 0) > seq) from--;
    return this.#events.slice(from, from + limit);
  }

  /** Called once, when there is something new. Returns what takes it back. */
  onNext(callback: () => void): () => void {
    const wake = (): void => {
      this.#waiting.delete(wake);
      callback();
    };
    this.#waiting.add(wake);
    return () => void this.#waiting.delete(wake);
  }

  async close(): Promise<void> {
    for (const wake of [...this.#waiting]) wake();
    await this.#writing;
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  #restore(value: unknown): void {
    if (value === undefined) return;
    const { seq, ...rest } = value as { seq?: unknown };
    if (typeof seq !== 'number' || !Number.isSafeInteger(seq) || seq <= this.#lastSeq) return;
    try {
      this.#add({ seq, event: parseEventRecord(rest) });
      this.#lastSeq = seq;
    } catch {
      // Sound bytes that are no event: not ours to judge.
    }
  }

  #add(logged: LoggedEvent): void {
    this.#events.push(logged);
    this.#ids.add(logged.event.id);
    const kept = this.#o.keptCount ?? EVENTS_KEPT_COUNT;
    if (this.#events.length > 2 * kept) this.#forget(this.#events.length - kept);
  }

  #forget(count: number): void {
    for (const { event } of this.#events.splice(0, count)) this.#ids.delete(event.id);
  }

  async #write(): Promise<void> {
    while (this.#unwritten.length > 0) {
      const lines = [...this.#unwritten];
      try {
        if (this.#file === undefined || this.#lineCount + lines.length > 2 * (this.#o.keptCount ?? EVENTS_KEPT_COUNT)) {
          this.#unwritten = [];
          await this.#rewrite();
          continue;
        }
        const bytes = Buffer.from(lines.join(''));
        await this.#file.write([bytes], this.#fileBytes);
        await this.#file.datasync();
        this.#fileBytes += bytes.length;
        this.#lineCount += lines.length;
        this.#unwritten = this.#unwritten.slice(lines.length);
        this.#failed = false;
      } catch (error) {
        // The next event tries again, with all that is in memory.
        this.#unwritten = [];
        const file = this.#file;
        this.#file = undefined;
        await file?.close().catch(() => undefined);
        this.#complain(error);
        return;
      }
    }
  }

  /** The whole file, with what is kept. */
  async #rewrite(): Promise<void> {
    const { disk, path } = this.#o;
    await this.#file?.close();
    this.#file = undefined;
    const kept = this.#events.slice(-(this.#o.keptCount ?? EVENTS_KEPT_COUNT));
    const lines = [sealed({ format: EVENT_LOG_FORMAT_VERSION, log: this.id }), ...kept.map(lineOf)];
    const bytes = Buffer.from(lines.join(''));
    await disk.writeFileAtomic(path, bytes);
    this.#file = await disk.open(path, 'write');
    this.#fileBytes = bytes.length;
    this.#lineCount = kept.length;
  }

  #complain(error: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#o.log.warn({ path: this.#o.path, error: String(error) }, 'the history of events cannot be written');
  }
}

function lineOf({ seq, event }: LoggedEvent): string {
  return sealed({ seq, ...event });
}

/** Checksum and JSON, so that a torn or rotten line shows. */
function sealed(value: object): string {
  const json = JSON.stringify(value);
  return `${checksumOf(json)} ${json}\n`;
}

function readLine(line: string): unknown {
  const [checksum = '', ...rest] = line.split(' ');
  const json = rest.join(' ');
  if (checksum !== checksumOf(json)) return undefined;
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

function checksumOf(json: string): string {
  return xxh64(Buffer.from(json)).toString(16).padStart(16, '0');
}
