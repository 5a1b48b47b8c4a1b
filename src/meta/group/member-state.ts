/**
 * What a member must remember beside its log and table, whatever happens to it: one small file, replaced as a whole and
 * synced. Format: docs/formats.md, "State of a member".
 */
import { z } from 'zod';
import { isFull } from '../../disk-errors.ts';
import type { Disk } from '../../env.ts';
import { CorruptionError, FormatError } from '../../errors.ts';
import type { HistoryId } from '../../ids.ts';

/** 2: `historyId`. A file of format 1 is read, and written as 2. */
const FORMAT_VERSION = 2;

export interface MemberFacts {
  /** Of the machine, when the log was last known to hold all that was acknowledged from here (R11). */
  readonly bootId: string;
  /** The process ended in order, with everything on disk; not set while it runs. */
  readonly clean: boolean;
  /** Highest epoch in which another's push was acknowledged as its secondary (R5). 0: never. */
  readonly ackedEpoch: number;
  /** Nothing of this epoch, or of one before it, is acknowledged any more (R5). 0: none. */
  readonly fencedEpoch: number;
  /** Of the data beside it (R9). Empty: there is none yet, or format 1 wrote it. */
  readonly historyId: HistoryId | '';
}

const schema = z.strictObject({
  formatVersion: z.int().min(1).max(FORMAT_VERSION),
  bootId: z.string().max(64),
  clean: z.boolean(),
  ackedEpoch: z.int().min(0),
  fencedEpoch: z.int().min(0),
  historyId: z
    .string()
    .regex(/^([0-9a-f]{16})?$/)
    .default(''),
});

/** Behind the file's name while its `bootId` and `clean` do not count: the disk was too full to write that into it. */
const UNCERTAIN = '.uncertain';

/** A member that has never said anything. */
const NEW: MemberFacts = { bootId: '', clean: false, ackedEpoch: 0, fencedEpoch: 0, historyId: '' };

export class MemberState {
  readonly #disk: Disk;
  readonly #path: string;
  #facts: MemberFacts;
  #writing: Promise<void> = Promise.resolve();
  /** It has its other name, or had it a moment ago. */
  #isRenamed: boolean;
  /** There was no file: a new member, or one that lost it. */
  readonly isNew: boolean;

  private constructor(disk: Disk, path: string, facts: MemberFacts | undefined, isRenamed = false) {
    this.#disk = disk;
    this.#path = path;
    this.#isRenamed = isRenamed;
    this.#facts = facts ?? NEW;
    this.isNew = facts === undefined;
  }

  /** `path` is the file's. CorruptionError if it is damaged, FormatError if it is newer than this program. */
  static async open(disk: Disk, path: string): Promise<MemberState> {
    const uncertain = path + UNCERTAIN;
    const isRenamed = await disk.exists(uncertain);
    if (await disk.exists(path)) return new MemberState(disk, path, parse(await disk.readFile(path), path), isRenamed);
    if (!isRenamed) return new MemberState(disk, path, undefined);
    const facts = parse(await disk.readFile(uncertain), uncertain);
    return new MemberState(disk, path, { ...facts, bootId: '', clean: false }, true);
  }

  /** As on disk. */
  get facts(): MemberFacts {
    return this.#facts;
  }

  /** Durable when it resolves; only then do the facts show it. Changes are made one after the other. */
  update(change: Partial<MemberFacts>): Promise<void> {
    return this.#inOrder(() => this.#write(change));
  }

  /** R11: this run of the machine is not to be counted on. Durable when it resolves, also where the disk is full. */
  forgetRun(): Promise<void> {
    return this.#inOrder(async () => {
      const forgotten = { bootId: '', clean: false };
      try {
        await this.#write(forgotten);
      } catch (error) {
        if (!isFull(error)) throw error;
        // A name can be changed without room for a byte.
        if (await this.#disk.exists(this.#path)) await this.#disk.rename(this.#path, this.#path + UNCERTAIN);
        await this.#disk.syncDir(this.#path.slice(0, this.#path.lastIndexOf('/')));
        this.#isRenamed = true;
        this.#facts = { ...this.#facts, ...forgotten };
      }
    });
  }

  async #write(change: Partial<MemberFacts>): Promise<void> {
    const next = { ...this.#facts, ...change };
    const text = JSON.stringify({ formatVersion: FORMAT_VERSION, ...next });
    await this.#disk.writeFileAtomic(this.#path, new TextEncoder().encode(`${text}\n`));
    this.#facts = next;
    if (!this.#isRenamed) return;
    await this.#disk.remove(this.#path + UNCERTAIN);
    this.#isRenamed = false;
  }

  #inOrder(work: () => Promise<void>): Promise<void> {
    const done = this.#writing.then(work);
    this.#writing = done.catch(() => undefined);
    return done;
  }
}

function parse(bytes: Uint8Array, path: string): MemberFacts {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new CorruptionError(`${path} is damaged`, { cause: error });
  }
  const version = (value as { formatVersion?: unknown } | null)?.formatVersion;
  if (typeof version === 'number' && version > FORMAT_VERSION) {
    throw new FormatError(`${path} has format ${version}; this program knows ${FORMAT_VERSION}`, {
      remedy: 'Run a newer tatamifs on this machine.',
    });
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw new CorruptionError(`${path} is damaged`);
  const { formatVersion: _, historyId, ...facts } = parsed.data;
  return { ...facts, historyId: historyId as HistoryId | '' };
}
