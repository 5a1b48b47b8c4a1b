/**
 * A program that writes files, and remembers what it was promised: which contents a file may have after a crash.
 */
import assert from 'node:assert/strict';
import type { Clock } from '../../src/env.ts';
import type { FileSystem } from '../../src/vfs/api.ts';
import { SIM_BLOCK_BYTES } from './cluster.ts';
import type { SimRandom } from './random.ts';

export interface WorkloadOptions {
  /** Paths begin so, so that several can run in one cluster. */
  readonly prefix: string;
  /** Longest pause between two actions; in half of the cases there is none. */
  readonly pauseMs?: number;
  /** Files are also cloned. By chance of their own: what is done else stays as it was. */
  readonly clones?: SimRandom;
  /** Files are also changed in small pieces, and compacted meanwhile. By chance of their own, too. */
  readonly patches?: SimRandom;
}

/** Of the actions, where files are cloned. Often: the original is then replaced or deleted by one of the next. */
const CLONE_SHARE = 0.3;

/** Of the actions, where files are changed in small pieces. */
const PATCH_SHARE = 0.2;
const PATCH_MOST_BYTES = 600;

const DEFAULT_PAUSE_MS = 100;
const COPYFILE_FICLONE_FORCE = 4;

interface Version {
  /** Undefined: there is no such file. */
  readonly content: Buffer | undefined;
  /** While it is written, any beginning of the content may be seen, or the version before. */
  readonly growing: boolean;
  acknowledged: boolean;
  durable: boolean;
  /** How often power had been lost when its content began to be written. */
  readonly lossCount: number;
}

/** What was promised for each path, oldest first. */
export class Journal {
  readonly #paths = new Map<string, Version[]>();
  /**
   * How often more power was lost than acknowledged changes survive. What was begun before the latest time may have gone
   * although it was acknowledged, and a later sync does not bring it back.
   */
  lossCount = 0;

  /** `from`: the version whose content it has, and with which that may have gone. */
  begin(path: string, content: Buffer | undefined, growing = false, from?: Version): Version {
    const lossCount = from === undefined || from.durable ? this.lossCount : from.lossCount;
    const version = { content, growing, acknowledged: false, durable: false, lossCount };
    const versions = this.#paths.get(path) ?? [
      { content: undefined, growing: false, acknowledged: true, durable: true, lossCount: 0 },
    ];
    versions.push(version);
    this.#paths.set(path, versions);
    return version;
  }

  /**
   * Before `to` gets what is at `from`: what was there last may have gone with the power, and then what was there before
   * it is moved.
   */
  mayMove(from: string, to: string): void {
    const versions = this.#paths.get(from) ?? [];
    const last = versions.length - 1;
    const since = Math.max(
      0,
      versions.findLastIndex((version) => version.durable),
    );
    for (const version of versions.slice(since, last)) this.begin(to, version.content, version.growing, version);
  }

  /** Everything that was acknowledged is on disk. */
  allDurable(): void {
    for (const versions of this.#paths.values()) {
      for (const version of versions) {
        version.durable ||= version.acknowledged && version.lossCount === this.lossCount;
      }
    }
  }

  /** What was acknowledged of this path is on disk. */
  pathDurable(path: string): void {
    for (const version of this.#paths.get(path) ?? []) version.durable ||= version.acknowledged;
  }

  /** What was changed in steps while more power was lost than they survive may have any of these steps: it is not looked at again. */
  giveUp(path: string): void {
    this.#paths.set(path, []);
  }

  /** A path with something in it that nobody is changing. */
  pick(random: SimRandom): { path: string; content: Buffer; version: Version } | undefined {
    const found: { path: string; content: Buffer; version: Version }[] = [];
    for (const [path, versions] of this.#paths) {
      const last = versions.at(-1);
      if (last?.acknowledged === true && last.content !== undefined) {
        found.push({ path, content: last.content, version: last });
      }
    }
    return found[random.below(Math.max(1, found.length))];
  }

  /** `acknowledged`: nothing that was answered may be missing; `durable`: nothing that was synced. */
  check(files: ReadonlyMap<string, Buffer>, promise: 'acknowledged' | 'durable'): void {
    for (const path of files.keys()) assert.ok(this.#paths.has(path), `${path} was never written`);
    for (const [path, versions] of this.#paths) {
      if (versions.length === 0) continue;
      const since = versions.findLastIndex((version) => version[promise]);
      const seen = files.get(path);
      const isAllowed = versions.slice(since).some((version) => {
        // What was acknowledged and not synced may have lost its end, and then have been renamed.
        return matches(version, seen, version.growing || (promise === 'durable' && !version.durable));
      });
      if (!isAllowed)
        throw new Error(`${path}: ${describe(seen)}, but may be ${versions.slice(since).map(tell).join(' or ')}`);
    }
  }

  get count(): number {
    return this.#paths.size;
  }
}

/** `beginning`: any beginning of the content will do. */
function matches(version: Version, seen: Buffer | undefined, beginning: boolean): boolean {
  if (seen === undefined || version.content === undefined) return seen === version.content;
  const wanted = beginning ? version.content.subarray(0, seen.length) : version.content;
  return wanted.equals(seen);
}

function describe(content: Buffer | undefined): string {
  return content === undefined ? 'absent' : `${content.length} bytes (${content.subarray(0, 4).toString('hex')}...)`;
}

function tell(version: Version): string {
  const state = version.durable ? 'durable' : version.acknowledged ? 'acknowledged' : 'begun';
  return `${version.growing ? 'the beginning of ' : ''}${describe(version.content)} ${state}`;
}

/** Writes, replaces, renames and deletes files until it is stopped. */
export class Workload {
  readonly journal = new Journal();
  readonly #fs: FileSystem;
  readonly #random: SimRandom;
  readonly #prefix: string;
  readonly #pauseMs: number;
  readonly #clones: SimRandom | undefined;
  readonly #patches: SimRandom | undefined;
  readonly #clock: Clock;
  #stopped = false;
  #nextFile = 0;
  actionCount = 0;
  cloneCount = 0;
  /** Pieces that small writes and compactions have left fewer of. */
  savedCount = 0;
  readonly done: Promise<void>;

  constructor(fs: FileSystem, clock: Clock, random: SimRandom, options: WorkloadOptions) {
    this.#fs = fs;
    this.#clock = clock;
    this.#random = random;
    this.#prefix = options.prefix;
    this.#pauseMs = options.pauseMs ?? DEFAULT_PAUSE_MS;
    this.#clones = options.clones;
    this.#patches = options.patches;
    this.done = this.#run();
    // A caller that lets everything crash never asks.
    this.done.catch(() => undefined);
  }

  /** It ends after its current action. */
  stop(): void {
    this.#stopped = true;
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      if (this.#clones?.chance(CLONE_SHARE) === true) await this.#clone(this.#clones);
      if (this.#patches?.chance(PATCH_SHARE) === true) await this.#patch(this.#patches);
      const draw = this.#random.below(10);
      if (draw < 5) await this.#write();
      else if (draw < 7) await this.#replace();
      else if (draw < 8) await this.#rename();
      else if (draw < 9) await this.#unlink();
      else await this.#syncAll();
      this.actionCount++;
      if (this.#random.chance(0.5)) await this.#clock.sleep(this.#random.between(0, this.#pauseMs));
    }
  }

  /** From nothing over inline to several blocks. */
  #content(): Buffer {
    const least = this.#random.chance(0.3) ? 0 : 20_000;
    const length = least + this.#random.below(this.#random.chance(0.1) ? 5 * SIM_BLOCK_BYTES : SIM_BLOCK_BYTES);
    return Buffer.from(this.#random.bytes(length).buffer, 0, length);
  }

  #newPath(): string {
    return `/${this.#prefix}${this.#nextFile++}`;
  }

  async #writeFile(path: string, content: Buffer, sync: boolean): Promise<Version> {
    const empty = this.journal.begin(path, Buffer.alloc(0));
    this.journal.begin(path, content, true);
    const file = await this.#fs.open(path, 'w');
    for (let position = 0; position < content.length;) {
      const length = Math.min(content.length - position, 1 + this.#random.below(2 * SIM_BLOCK_BYTES));
      await file.write(content, position, length, position);
      position += length;
    }
    const whole = this.journal.begin(path, content, false, empty);
    if (sync) {
      await file.sync();
      whole.acknowledged = true;
      whole.durable = whole.lossCount === this.journal.lossCount;
    }
    await file.close();
    whole.acknowledged = true;
    return whole;
  }

  async #write(): Promise<void> {
    await this.#writeFile(this.#newPath(), this.#content(), this.#random.chance(0.4));
  }

  /** As careful programs do: new content under another name, synced, renamed over the old. */
  async #replace(): Promise<void> {
    const old = this.journal.pick(this.#random);
    if (old === undefined) return;
    const path = this.#newPath();
    const content = this.#content();
    await this.#move(path, old.path, content, await this.#writeFile(path, content, true));
  }

  async #rename(): Promise<void> {
    const old = this.journal.pick(this.#random);
    if (old !== undefined) await this.#move(old.path, this.#newPath(), old.content, old.version);
  }

  async #move(from: string, to: string, content: Buffer, version: Version): Promise<void> {
    this.journal.mayMove(from, to);
    const changes = [this.journal.begin(from, undefined), this.journal.begin(to, content, false, version)];
    await this.#fs.rename(from, to);
    for (const change of changes) change.acknowledged = true;
    if (this.#random.chance(0.5)) await this.#syncAll();
  }

  /** Its blocks are the original's, and nothing else keeps them once that is gone. */
  async #clone(random: SimRandom): Promise<void> {
    const old = this.journal.pick(random);
    if (old === undefined) return;
    const path = this.#newPath();
    const empty = this.journal.begin(path, Buffer.alloc(0));
    this.journal.mayMove(old.path, path);
    this.journal.begin(path, old.content, true, old.version);
    await this.#fs.copyFile(old.path, path, COPYFILE_FICLONE_FORCE);
    const changes = [empty, this.journal.begin(path, old.content, false, old.version)];
    for (const change of changes) change.acknowledged = true;
    this.cloneCount++;
    if (random.chance(0.3)) await this.#removeOne(old.path);
  }

  /** As databases do; the file is compacted while that goes on. Of what was not synced before it is not known what is changed. */
  async #patch(random: SimRandom): Promise<void> {
    const old = this.journal.pick(random);
    if (old === undefined || !old.version.durable || old.content.length === 0) return;
    const { path } = old;
    const lossCount = this.journal.lossCount;
    try {
      await using file = await this.#fs.open(path, 'r+');
      let content = old.content;
      const pieceCount = 2 + random.below(23);
      // One block's length has to get many pieces before they are put together.
      const from = random.below(content.length);
      const compactsAfter = random.chance(0.5) ? random.below(pieceCount) : undefined;
      let compacting: Promise<void> | undefined;
      for (let index = 0; index < pieceCount; index++) {
        const position = from + random.below(Math.min(content.length - from, 20 * PATCH_MOST_BYTES));
        // In one block: what lies in two may be there in part.
        const room =
          Math.min(content.length, (Math.floor(position / SIM_BLOCK_BYTES) + 1) * SIM_BLOCK_BYTES) - position;
        const bytes = random.bytes(1 + random.below(Math.min(room, PATCH_MOST_BYTES)));
        content = Buffer.from(content);
        content.set(bytes, position);
        const change = this.journal.begin(path, content);
        await file.write(bytes, 0, bytes.length, position);
        await file.flush();
        change.acknowledged = true;
        if (index === compactsAfter) compacting = this.#compact(path);
      }
      await compacting;
      if (random.chance(0.7)) {
        await file.sync();
        if (this.journal.lossCount === lossCount) this.journal.pathDurable(path);
      }
    } finally {
      if (this.journal.lossCount !== lossCount) this.journal.giveUp(path);
    }
  }

  async #compact(path: string): Promise<void> {
    try {
      this.savedCount += (await this.#fs.compact(path)).savedCount;
    } catch {
      // Tried again by nobody: it changes nothing that can be seen.
    }
  }

  async #unlink(): Promise<void> {
    const old = this.journal.pick(this.#random);
    if (old !== undefined) await this.#removeOne(old.path);
  }

  async #removeOne(path: string): Promise<void> {
    const change = this.journal.begin(path, undefined);
    await this.#fs.unlink(path);
    change.acknowledged = true;
  }

  async #syncAll(): Promise<void> {
    await this.#fs.sync();
    this.journal.allDurable();
  }
}
