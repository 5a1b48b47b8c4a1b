/**
 * Clients that change and read the same few names and files at once, and note what they were told: the histories that
 * the checkers look at. Nothing is cached: every answer is the cluster's.
 */
import type { ClusterClient } from '../../src/client.ts';
import type { Clock } from '../../src/env.ts';
import { FsError, TatamiError } from '../../src/errors.ts';
import { ROOT_INO } from '../../src/ids.ts';
import type { Ino } from '../../src/ids.ts';
import type { Attr } from '../../src/meta/types.ts';
import { FileSystem } from '../../src/vfs/api.ts';
import { History } from './check/history.ts';
import type { NamesAnswer, NamesCall, SeenFile } from './check/names-model.ts';
import type { RegisterAnswer, RegisterCall } from './check/register-model.ts';
import type { SimRandom } from './random.ts';

const NAMES = ['a', 'b', 'c', 'd'];
const REGISTER_BYTES = [64, 20_000] as const;
const LIST_LIMIT = 100;
const SLOW_MS = 1_000;
/** Errors of the file, which are answers; all others leave open what has happened. */
const ANSWERS = new Set(['ENOENT', 'EEXIST']);

export interface ArenaOptions {
  readonly directories: number;
  readonly registers: number;
  readonly nowMs: () => number;
  /** Longest pause between two operations of a client. */
  readonly pauseMs: number;
  /** Operations of all clients together, after which they are slow. */
  readonly steps: number;
}

interface ContendedDirectory {
  readonly ino: Ino;
  readonly history: History<NamesCall, NamesAnswer>;
  /** Inode by tag, as far as anybody was told. */
  readonly inos: Map<number, Ino>;
}

/** What is fought over. */
export class Arena {
  readonly options: ArenaOptions;
  readonly directories: ContendedDirectory[] = [];
  readonly registers: { readonly path: string; readonly history: History<RegisterCall, RegisterAnswer> }[] = [];
  /** Unexpected errors. */
  readonly surprises: string[] = [];
  #nextTag = 1;
  #begun = 0;

  constructor(options: ArenaOptions) {
    this.options = options;
  }

  /** One more operation begins; false: enough of them have. */
  step(): boolean {
    return ++this.#begun <= this.options.steps;
  }

  newTag(): number {
    return this.#nextTag++;
  }

  /** Makes directories and files, before anything is noted. */
  async furnish(client: ClusterClient, fs: FileSystem): Promise<void> {
    const { directories, registers, nowMs } = this.options;
    for (let index = 0; index < directories; index++) {
      const made = await client.meta.mutate({
        op: 'make',
        parent: ROOT_INO,
        name: Buffer.from(`dir${index}`),
        type: 'directory',
        mode: 0o755,
        owner: { uid: 0, gid: 0 },
        rdev: 0,
        exclusive: true,
      });
      if (made.attr === undefined) throw new Error('made, but without attributes');
      this.directories.push({ ino: made.attr.ino, history: new History(nowMs), inos: new Map() });
    }
    for (let index = 0; index < registers; index++) {
      const path = `/register${index}`;
      await fs.writeFile(path, contentOf(0, registerBytes(index)), { flush: true });
      this.registers.push({ path, history: new History(nowMs) });
    }
  }
}

export class Contender {
  readonly name: string;
  readonly #arena: Arena;
  readonly #client: ClusterClient;
  readonly #fs: FileSystem;
  readonly #clock: Clock;
  readonly #random: SimRandom;
  #stopped = false;
  /** Operations answered. */
  answeredCount = 0;
  unknownCount = 0;
  lastAnswerMs = 0;
  readonly done: Promise<void>;

  constructor(name: string, arena: Arena, client: ClusterClient, clock: Clock, random: SimRandom) {
    this.name = name;
    this.#arena = arena;
    this.#client = client;
    this.#fs = openUncached(client);
    this.#clock = clock;
    this.#random = random;
    this.done = this.#run();
    this.done.catch(() => undefined);
  }

  stop(): void {
    this.#stopped = true;
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      if (!this.#arena.step()) await this.#clock.sleep(SLOW_MS);
      await (this.#arena.registers.length > 0 && this.#random.chance(0.15) ? this.#touchRegister() : this.#touchName());
      if (this.#random.chance(0.8)) await this.#clock.sleep(this.#random.between(0, this.#arena.options.pauseMs));
    }
  }

  async #touchName(): Promise<void> {
    const { directories } = this.#arena;
    const directory = directories[this.#random.below(directories.length)]!;
    const call = this.#draw(directory);
    const pending = directory.history.begin(this.name, call);
    await this.#note(pending, () => askNames(this.#client, directory, call));
  }

  #draw({ inos }: ContendedDirectory): NamesCall {
    const random = this.#random;
    const name = NAMES[random.below(NAMES.length)]!;
    const other = NAMES[(NAMES.indexOf(name) + 1 + random.below(NAMES.length - 1)) % NAMES.length]!;
    const known = [...inos.keys()].slice(-6);
    const tag = known[random.below(Math.max(1, known.length))];
    const draw = random.below(16);
    if (draw < 4) return { op: 'create', name, tag: this.#arena.newTag() };
    if (draw < 6) return { op: 'unlink', name };
    if (draw < 9) {
      const mode = (['replace', 'noReplace', 'exchange'] as const)[random.below(3)]!;
      return { op: 'rename', name, to: other, mode };
    }
    if (draw < 10 && tag !== undefined) return { op: 'link', tag, name };
    if (draw < 12 && tag !== undefined) return { op: 'setattr', tag, value: this.#arena.newTag() };
    if (draw < 13 && tag !== undefined) return { op: 'getattr', tag };
    return draw < 15 ? { op: 'lookup', name } : { op: 'readdir' };
  }

  async #touchRegister(): Promise<void> {
    const index = this.#random.below(this.#arena.registers.length);
    const { path, history } = this.#arena.registers[index]!;
    if (this.#random.chance(0.5)) {
      await this.#note(history.begin(this.name, { op: 'read' }), () => readRegister(this.#fs, path));
      return;
    }
    const value = this.#arena.newTag();
    await this.#note(history.begin(this.name, { op: 'write', value }), async () => {
      const file = await this.#fs.open(path, 'r+');
      try {
        await file.write(contentOf(value, registerBytes(index)), 0, registerBytes(index), 0);
        await file.sync();
      } finally {
        await file.close();
      }
      return value;
    });
  }

  async #note<Answer>(pending: { done(answer: Answer): void }, ask: () => Promise<Answer>): Promise<void> {
    try {
      pending.done(await ask());
      this.answeredCount++;
      this.lastAnswerMs = this.#arena.options.nowMs();
    } catch (error) {
      this.unknownCount++;
      const code = (error as { code?: string }).code ?? '';
      const expected = error instanceof TatamiError || ['EIO', 'ETIMEDOUT', 'EAGAIN', 'ENOSPC'].includes(code);
      if (!expected || code === 'ERR_INVARIANT') this.#arena.surprises.push(`${this.name}: ${String(error)}`);
    }
  }
}

export function openUncached(client: ClusterClient): FileSystem {
  return new FileSystem(client.openVfs({ attrTimeoutMs: 0 }), { uid: 0, gid: 0 });
}

/** Reads what is there at the end, as operations like any other. */
export async function readEnd(arena: Arena, name: string, client: ClusterClient): Promise<void> {
  const fs = openUncached(client);
  for (const directory of arena.directories) {
    const call = { op: 'readdir' } as const;
    const pending = directory.history.begin(name, call);
    pending.done(await askNames(client, directory, call));
  }
  for (const { path, history } of arena.registers) {
    const pending = history.begin(name, { op: 'read' });
    pending.done(await readRegister(fs, path));
  }
}

const registerBytes = (index: number): number => REGISTER_BYTES[index % REGISTER_BYTES.length]!;

/** Bytes that all tell the value. */
function contentOf(value: number, lengthBytes: number): Buffer {
  return Buffer.alloc(lengthBytes, `${value};`.padStart(16, '.'));
}

async function readRegister(fs: FileSystem, path: string): Promise<number> {
  const content = await fs.readFile(path);
  const value = Number(content.subarray(0, 16).toString('latin1').replaceAll('.', '').replace(';', ''));
  if (!content.equals(contentOf(value, content.length))) throw new Error(`${path} holds a mixture of two writes`);
  return value;
}

async function askNames(
  { meta }: ClusterClient,
  { ino: parent, inos }: ContendedDirectory,
  call: NamesCall,
): Promise<NamesAnswer> {
  const seen = (attr: Attr): SeenFile => {
    inos.set(attr.uid, attr.ino);
    return { tag: attr.uid, value: attr.gid, nlink: attr.nlink };
  };
  // Without a name it is there for those alone that have it open: how long, the model does not know.
  const named = (attr: Attr | undefined): Attr => {
    if (attr === undefined || attr.nlink === 0) throw new FsError('ENOENT');
    return attr;
  };
  try {
    switch (call.op) {
      case 'create': {
        const owner = { uid: call.tag, gid: 0 };
        const name = Buffer.from(call.name);
        const exclusive = true;
        const made = await meta.mutate({
          op: 'make',
          parent,
          name,
          type: 'file',
          mode: 0o644,
          owner,
          rdev: 0,
          exclusive,
        });
        if (made.attr !== undefined) seen(made.attr);
        return { ok: true };
      }
      case 'unlink':
        await meta.mutate({ op: 'unlink', parent, name: Buffer.from(call.name), keepOpen: false });
        return { ok: true };
      case 'rename':
        await meta.mutate({
          op: 'rename',
          parent,
          name: Buffer.from(call.name),
          newParent: parent,
          newName: Buffer.from(call.to),
          noReplace: call.mode === 'noReplace',
          exchange: call.mode === 'exchange',
          keepOpen: false,
        });
        return { ok: true };
      case 'link':
        await meta.mutate({ op: 'link', ino: inoOf(call.tag, inos), parent, name: Buffer.from(call.name) });
        return { ok: true };
      case 'setattr':
        named((await meta.mutate({ op: 'setattr', ino: inoOf(call.tag, inos), set: { gid: call.value } })).attr);
        return { ok: true };
      case 'lookup':
        return { file: seen((await meta.query({ op: 'lookup', parent, name: Buffer.from(call.name) })).attr) };
      case 'getattr':
        return { file: seen(named((await meta.query({ op: 'getattr', ino: inoOf(call.tag, inos) })).attr)) };
      case 'readdir': {
        const query = {
          op: 'readdir',
          ino: parent,
          after: new Uint8Array(),
          limit: LIST_LIMIT,
          withAttrs: true,
        } as const;
        const { entries } = await meta.query(query);
        return {
          entries: entries.map(({ name, attr }) => {
            if (attr === undefined) throw new Error('an entry without attributes');
            return [Buffer.from(name).toString(), seen(attr)] as const;
          }),
        };
      }
    }
  } catch (error) {
    if (error instanceof FsError && ANSWERS.has(error.code)) return { error: error.code };
    throw error;
  }
}

function inoOf(tag: number, inos: ReadonlyMap<number, Ino>): Ino {
  const ino = inos.get(tag);
  if (ino === undefined) throw new Error(`nobody knows file ${tag}`);
  return ino;
}
