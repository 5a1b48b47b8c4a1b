/**
 * Two mounts of one cluster in memory beside the model (testing-model.ts), for the steps of vfs-tree.test.ts. What one mount may
 * know late of the other by contract (close-to-open, names that are kept) is brought about here before each step, so
 * that all else must be equal at once: data that the other mount has not committed is flushed there, files are opened anew
 * here, names run out.
 */
import { FsError } from '../errors.ts';
import { ROOT_INO, type Ino } from '../ids.ts';
import { WATCHED_MS } from '../limits.ts';
import type { Attr } from '../meta/types.ts';
import { O_ACCMODE, O_APPEND, O_RDONLY, O_WRONLY } from './handles.ts';
import type { Caller, Entry, Handle, Maybe } from './ops.ts';
import { ModelError, ModelFs, refuse, type ModelList, type ModelNode } from './testing-model.ts';
import { name as bytesOf, readAll, ROOT, TestCluster, turns, type TestMount } from './testing.ts';
import type { Vfs } from './vfs.ts';

export const BLOCK = 4096;
/** Files stay about as short as this. */
export const SPACE = 6 * BLOCK;
const NAMES_KEPT_MS = 1_000;
const MS = 1_000_000n;
const FILE_COUNT_MAX = 2 ** 40;

/** An open file. */
export class Slot {
  readonly mount: number;
  readonly node: ModelNode;
  readonly handle: Handle;
  readonly canRead: boolean;
  readonly canWrite: boolean;
  readonly appends: boolean;

  constructor(mount: number, node: ModelNode, handle: Handle, flags: number) {
    this.mount = mount;
    this.node = node;
    this.handle = handle;
    this.canRead = (flags & O_ACCMODE) !== O_WRONLY;
    this.canWrite = (flags & O_ACCMODE) !== O_RDONLY;
    this.appends = (flags & O_APPEND) !== 0;
  }
}

/** What one mount knows of a file, and what may still be uncommitted there. */
interface Known {
  seen: number;
  dirty: boolean;
}

/** What the tests themselves keep of a file. */
interface Notes {
  /** Grows with each change. */
  changes: number;
  readonly known: readonly [Known, Known];
  /** A commit at a time of its own moves the change time: not known to the step. */
  ctimeIsLoose: boolean;
  /** Through which open files each owner has asked for the locks that it has. */
  readonly lockedThrough: Map<string, Set<Slot>>;
}

const LIMITS = { dirtyMaxBytes: 4 * BLOCK, readCacheBytes: 4 * BLOCK, inlineMaxBytes: 200 };

export class World {
  readonly model = new ModelFs();
  slots: Slot[] = [];
  stepCount = 0;
  readonly #cluster: TestCluster;
  readonly #attrTimeoutMs: number;
  readonly #mounts: TestMount[] = [];
  readonly #inos = new Map<ModelNode, Ino>();
  readonly #notes = new Map<ModelNode, Notes>();
  /** References that the kernel of each mount would have. */
  readonly #refs = [new Map<Ino, number>(), new Map<Ino, number>()] as const;
  /** Something was done through the other mount since this one's last step. */
  readonly #isBehind = [false, false];

  private constructor(cluster: TestCluster, keepsNames: boolean) {
    this.#cluster = cluster;
    this.#attrTimeoutMs = keepsNames ? NAMES_KEPT_MS : 0;
    this.#inos.set(this.model.root, ROOT_INO);
  }

  static async start(keepsNames: boolean): Promise<World> {
    const cluster = await TestCluster.start(BLOCK);
    const world = new World(cluster, keepsNames);
    cluster.blocks.beforePut = () => turns(1);
    for (const mount of [0, 1]) world.#mounts[mount] = await world.#mount();
    // The root's own times and mode are not the model's.
    await world.begin(0);
    const set = { mode: 0o755, atimeNs: 1n, mtimeNs: 1n };
    await world.vfs(0).setattr(ROOT, ROOT_INO, set, undefined);
    world.model.setattr(world.model.root, set);
    return world;
  }

  #mount(): Promise<TestMount> {
    return this.#cluster.mount({ ...LIMITS, attrTimeoutMs: this.#attrTimeoutMs, watchedMs: WATCHED_MS });
  }

  vfs(mount: number): Vfs {
    return this.#mounts[mount]!.vfs;
  }

  ino(node: ModelNode): Ino {
    return this.#inos.get(node)!;
  }

  notes(node: ModelNode): Notes {
    let notes = this.#notes.get(node);
    if (notes === undefined) {
      const known = [
        { seen: 0, dirty: false },
        { seen: 0, dirty: false },
      ] as const;
      this.#notes.set(node, (notes = { changes: 0, known, ctimeIsLoose: false, lockedThrough: new Map() }));
    }
    return notes;
  }

  /** Time goes on, and what this mount keeps of before the other's changes runs out. */
  async begin(mount: number): Promise<void> {
    await this.#advance(this.#isBehind[mount] === true ? this.#attrTimeoutMs + 1 : 1);
    this.#isBehind[mount] = false;
    this.#isBehind[1 - mount] = true;
    this.stepCount += 1;
  }

  async #advance(ms: number): Promise<void> {
    await this.#cluster.clock.advance(ms);
    this.model.nowNs = this.#cluster.clock.wallNs();
  }

  /** Longer than dirty data may stay. */
  async wait(): Promise<void> {
    await this.#advance(7_000);
  }

  /** Before content or attributes are looked at or changed through a mount. */
  async freshen(mount: number, node: ModelNode): Promise<void> {
    const { known, changes } = this.notes(node);
    const other = known[(1 - mount) as 0 | 1];
    if (other.dirty) {
      const writer = this.slots.find((slot) => slot.mount !== mount && slot.node === node && slot.canWrite)!;
      await this.vfs(1 - mount).flush(ROOT, writer.handle, 0n);
      other.dirty = false;
      // Its attributes may have been looked at in this step already.
      if (this.#attrTimeoutMs > 0) await this.#advance(this.#attrTimeoutMs + 1);
    }
    const own = known[mount as 0 | 1];
    if (own.seen !== changes && this.slots.some((slot) => slot.mount === mount && slot.node === node)) {
      const { handle } = await this.vfs(mount).open(ROOT, this.ino(node), O_RDONLY);
      this.vfs(mount).release(handle);
    }
    own.seen = changes;
  }

  /** After a change through a mount. */
  changed(mount: number, ...nodes: readonly ModelNode[]): void {
    for (const node of nodes) {
      const notes = this.notes(node);
      const own = notes.known[mount as 0 | 1];
      if (own.seen === notes.changes) own.seen += 1;
      notes.changes += 1;
      const isExact = node.ctimeNs === this.model.nowNs && !notes.known.some(({ dirty }) => dirty);
      if (isExact) notes.ctimeIsLoose = false;
    }
  }

  written(slot: Slot): void {
    this.changed(slot.mount, slot.node);
    const notes = this.notes(slot.node);
    notes.known[slot.mount as 0 | 1].dirty = true;
    notes.ctimeIsLoose = true;
  }

  flushed(mount: number, node: ModelNode): void {
    this.notes(node).known[mount as 0 | 1].dirty = false;
  }

  took(mount: number, entry: Entry): void {
    const refs = this.#refs[mount as 0 | 1];
    refs.set(entry.attr.ino, (refs.get(entry.attr.ino) ?? 0) + 1);
  }

  forgetAll(mount: number): void {
    for (const [ino, count] of this.#refs[mount as 0 | 1]) this.vfs(mount).forget(ino, count);
    this.#refs[mount as 0 | 1].clear();
  }

  /** The directory that a path's last name is in, and that name; undefined if both say that there is none. */
  async parentOf(
    mount: number,
    path: string,
  ): Promise<{ readonly node: ModelNode; readonly name: string } | undefined> {
    const names = path.split('/');
    const name = names.pop()!;
    const node = await this.#walk(mount, names);
    return node === undefined ? undefined : { node, name };
  }

  /** What a path leads to, as the kernel looks for it; '' is the root. */
  async find(mount: number, path: string): Promise<ModelNode | undefined> {
    return this.#walk(mount, path === '' ? [] : path.split('/'));
  }

  async #walk(mount: number, names: readonly string[]): Promise<ModelNode | undefined> {
    let at = this.model.root;
    for (const name of names) {
      const found = await same(
        () => this.model.lookup(at, name),
        () => this.vfs(mount).lookup(ROOT, this.ino(at), bytesOf(name)),
      );
      if (found === undefined) return undefined;
      this.took(mount, found.got);
      this.compare(mount, found.expected, found.got.attr);
      at = found.expected;
    }
    return at;
  }

  /** The attributes must be those of the model. */
  compare(mount: number, node: ModelNode, attr: Attr): void {
    const known = this.#inos.get(node);
    if (known === undefined) this.#inos.set(node, attr.ino);
    const notes = this.notes(node);
    const isDirty = notes.known.some(({ dirty }) => dirty);
    // What the other mount has not committed is not seen here.
    const isLate = notes.known[(1 - mount) as 0 | 1].dirty;
    const expected = {
      ino: known ?? attr.ino,
      type: node.type,
      mode: node.mode,
      uid: node.uid,
      gid: node.gid,
      nlink: node.nlink,
      rdev: node.rdev,
      hasAcl: node.access !== undefined,
      hasDefaultAcl: node.defaults !== undefined,
      ...(node.type === 'directory' && { parent: node === this.model.root ? 0 : this.#inos.get(node.parent!) }),
      ...(!isLate && { sizeBytes: sizeOf(node) }),
      ...(!isDirty && { storedBytes: node.stored.reduce((sum, byte) => sum + byte, 0) }),
    };
    for (const [key, value] of Object.entries(expected)) {
      const got = attr[key as keyof typeof expected];
      if (got !== value) throw new Error(`${key} of the ${node.type}: expected ${value}, got ${String(got)}`);
    }
    checkTime('atime', node.atimeNs, attr.atimeNs);
    if (!isLate) checkTime('mtime', node.mtimeNs, attr.mtimeNs);
    if (!notes.ctimeIsLoose) checkTime('ctime', node.ctimeNs, attr.ctimeNs);
    else if (!isLate && attr.ctimeNs < node.ctimeNs) checkTime('ctime', node.ctimeNs, attr.ctimeNs);
    if (notes.ctimeIsLoose && !isDirty) {
      node.ctimeNs = attr.ctimeNs;
      notes.ctimeIsLoose = false;
    }
  }

  /** Asks a mount for them; what has lost its names and is not open there is gone. */
  async observe(mount: number, ...nodes: readonly (ModelNode | undefined)[]): Promise<void> {
    for (const node of nodes) {
      if (node === undefined) continue;
      const isOpen = this.slots.some((slot) => slot.mount === mount && slot.node === node);
      if (node.nlink > 0 || isOpen) {
        const { attr } = await this.vfs(mount).getattr(ROOT, this.ino(node), undefined);
        this.compare(mount, node, attr);
      } else if (node.type === 'file' || node.type === 'symlink') {
        await same(
          () => refuse('ENOENT'),
          () => this.vfs(mount).getattr(ROOT, this.ino(node), undefined),
        );
      } else if (node.type === 'directory') await this.#observeRemoved(mount, node);
    }
  }

  /** Whoever is in it still sees a directory, on the mount through which it was removed. */
  async #observeRemoved(mount: number, node: ModelNode): Promise<void> {
    try {
      const { attr } = await this.vfs(mount).getattr(ROOT, this.ino(node), undefined);
      equal('links of a removed directory', 0, attr.nlink);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      equal('a removed directory', 'ENOENT', error.code);
    }
  }

  async close(slot: Slot, owner = 0n): Promise<void> {
    await this.flush(slot, owner);
    this.vfs(slot.mount).release(slot.handle);
    this.slots = this.slots.filter((other) => other !== slot);
    for (const [key, through] of this.notes(slot.node).lockedThrough) {
      if (through.delete(slot) && through.size === 0) this.#unlock(slot.node, key);
    }
  }

  async flush(slot: Slot, owner: bigint): Promise<void> {
    await this.vfs(slot.mount).flush(ROOT, slot.handle, owner);
    if (slot.canWrite) this.flushed(slot.mount, slot.node);
    this.#unlock(slot.node, `posix ${slot.mount}-${owner}`);
  }

  /** `key`: kind and owner. */
  #unlock(node: ModelNode, key: string): void {
    const [kind, owner] = key.split(' ');
    this.model.unlock(node, kind as 'posix' | 'flock', owner!);
    this.notes(node).lockedThrough.delete(key);
  }

  /** A lock was asked for: it goes with the last open file through which its owner has asked. */
  askedForLock(slot: Slot, kind: 'posix' | 'flock', owner: string, isUnlock: boolean): void {
    const { lockedThrough } = this.notes(slot.node);
    const key = `${kind} ${owner}`;
    if (!slot.node.locks[kind].some((holders) => holders.has(owner))) lockedThrough.delete(key);
    else if (!isUnlock) lockedThrough.set(key, (lockedThrough.get(key) ?? new Set()).add(slot));
  }

  async remount(mount: number): Promise<void> {
    const old = this.#mounts[mount]!;
    const lost = await old.vfs.close();
    if (lost.length > 0) throw new Error(`unmounting has lost ${lost.join()}`);
    await old.meta.close();
    this.#checkLog(old);
    for (const [node, notes] of this.#notes) {
      notes.known[mount as 0 | 1].dirty = false;
      for (const key of notes.lockedThrough.keys()) if (key.includes(` ${mount}-`)) this.#unlock(node, key);
    }
    this.slots = this.slots.filter((slot) => slot.mount !== mount);
    this.#refs[mount as 0 | 1].clear();
    this.#mounts[mount] = await this.#mount();
  }

  #checkLog({ logged }: TestMount): void {
    const bad = logged.filter(({ level }) => level !== 'debug');
    if (bad.length > 0) throw new Error(`logged: ${JSON.stringify(bad, (_, value: unknown) => String(value))}`);
  }

  async checkContent(mount: number, slot: Slot): Promise<void> {
    const found = await readAll(this.vfs(mount), slot.handle, 0, 4 * SPACE);
    if (!found.equals(slot.node.bytes)) throw new Error(`the content differs, of ${slot.node.bytes.length} bytes`);
  }

  /** Both mounts, and one that is new, show the model's tree; and nothing is left of what has no name. */
  async finish(): Promise<void> {
    for (const slot of this.slots) {
      await this.freshen(slot.mount, slot.node);
      if (slot.canRead) await this.checkContent(slot.mount, slot);
    }
    for (const slot of this.slots) await this.close(slot);
    this.#isBehind.fill(true);
    for (const mount of [0, 1]) {
      await this.begin(mount);
      await this.#compareTree(mount);
    }
    for (const mount of [0, 1]) {
      this.forgetAll(mount);
      await turns();
      if (this.vfs(mount).usage().dirtyBytes !== 0) throw new Error('something is dirty at the end');
    }
    const { freeFileCount } = await (await this.#mount()).vfs.statfs(ROOT);
    const count = new Set(this.model.paths().values()).size;
    if (FILE_COUNT_MAX - freeFileCount !== count) {
      throw new Error(`expected ${count} inodes at the servers, got ${FILE_COUNT_MAX - freeFileCount}`);
    }
    for (const mount of [0, 1]) await this.remount(mount);
    await this.#compareTree(0);
  }

  async #compareTree(mount: number): Promise<void> {
    const vfs = this.vfs(mount);
    for (const [path, node] of this.model.paths()) {
      const found = await this.find(mount, path.slice(1));
      if (found !== node) throw new Error(`${path} is not there`);
      await this.observe(mount, node);
      const ino = this.ino(node);
      const names = await vfs.listxattr(ROOT, ino);
      equal('attributes', attributeNames(node), names.map((name) => String(Buffer.from(name))).sort());
      for (const [key, value] of node.attributes) {
        equal(key, value, String(Buffer.from(await vfs.getxattr(ROOT, ino, bytesOf(key)))));
      }
      for (const [key, list] of [['access', node.access] as const, ['default', node.defaults] as const]) {
        if (list === undefined) continue;
        const value = await vfs.getxattr(ROOT, ino, bytesOf(`system.posix_acl_${key}`));
        equal(`the ${key} list`, [...encodedList(list)], [...value]);
      }
      if (node.type === 'symlink') equal('target', node.target, String(Buffer.from(await vfs.readlink(ROOT, ino))));
      if (node.type === 'directory') equal('names', [...node.entries.keys()].sort(), await this.#names(mount, ino));
      if (node.type !== 'file') continue;
      const { handle } = await vfs.open(ROOT, ino, O_RDONLY);
      await this.checkContent(mount, new Slot(mount, node, handle, O_RDONLY));
      vfs.release(handle);
    }
  }

  async #names(mount: number, ino: Ino): Promise<string[]> {
    const { handle } = await this.vfs(mount).opendir(ROOT, ino);
    const items = await this.vfs(mount).readdir(ROOT, handle, 0, 1_000, false);
    this.vfs(mount).releasedir(handle);
    return items.slice(2).map((item) => String(Buffer.from(item.name)));
  }
}

/** As the kernel passes it. */
export function encodedList(list: ModelList | 'spoilt' | undefined): Uint8Array {
  if (list === undefined) return Buffer.from([2, 0, 0, 0]);
  const nobody = 0xffff_ffff;
  const entries =
    list === 'spoilt'
      ? [[1, 7, nobody]]
      : [
          [1, list.user, nobody],
          ...(list.named === undefined ? [] : [[2, list.named.permissions, list.named.uid]]),
          [4, list.group, nobody],
          ...(list.mask === undefined ? [] : [[16, list.mask, nobody]]),
          [32, list.other, nobody],
        ];
  const value = Buffer.alloc(4 + entries.length * 8);
  value.writeUInt32LE(2);
  entries.forEach(([tag, permissions, id], index) => {
    value.writeUInt16LE(tag!, 4 + index * 8);
    value.writeUInt16LE(permissions!, 6 + index * 8);
    value.writeUInt32LE(id!, 8 + index * 8);
  });
  return value;
}

export function attributeNames(node: ModelNode): string[] {
  return [
    ...node.attributes.keys(),
    ...(node.access === undefined ? [] : ['system.posix_acl_access']),
    ...(node.defaults === undefined ? [] : ['system.posix_acl_default']),
  ].sort();
}

function sizeOf(node: ModelNode): number {
  if (node.type === 'directory') return node.entries.size;
  return node.type === 'symlink' ? node.target.length : node.bytes.length;
}

/** The model's own times are whole milliseconds: of them the servers' differ by less than one. */
function checkTime(what: string, expected: bigint, got: bigint): void {
  const isSame = expected % MS === 0n ? got / MS === expected / MS : got === expected;
  if (!isSame) throw new Error(`${what}: expected ${expected}, got ${got}`);
}

export function equal(what: string, expected: unknown, got: unknown): void {
  const texts = [expected, got].map((value) => JSON.stringify(value));
  if (texts[0] !== texts[1]) throw new Error(`${what}: expected ${texts[0]}, got ${texts[1]}`);
}

/** Both do it, or both refuse for the same reason: then undefined. */
export async function same<T, R>(
  expected: () => T,
  got: () => Maybe<R>,
): Promise<{ readonly expected: T; readonly got: R } | undefined> {
  const wanted = await outcome(expected);
  const found = await outcome(got);
  if (wanted.code !== found.code) throw new Error(`expected ${wanted.code}, got ${found.code}`);
  return wanted.code === 'done' ? { expected: wanted.value as T, got: found.value as R } : undefined;
}

async function outcome<T>(work: () => Maybe<T>): Promise<{ readonly code: string; readonly value?: T }> {
  try {
    return { code: 'done', value: await work() };
  } catch (error) {
    if (error instanceof ModelError || error instanceof FsError) return { code: error.code };
    throw error;
  }
}

/** Who asks: as the kernel tells it. */
export const CALLERS: readonly Caller[] = [
  { uid: 0, gid: 0, pid: 1 },
  { uid: 1000, gid: 1000, pid: 2 },
  { uid: 1001, gid: 2000, pid: 3 },
];
