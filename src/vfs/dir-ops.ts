/** Reading directories. */
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { DirHandle, FIRST_NAME_OFFSET, type ListedName } from './dir-handle.ts';
import type { MountState } from './mount-state.ts';
import { keyOf } from './name-cache.ts';
import type { Caller, DirItem, Handle, Maybe, Opened } from './ops.ts';

const DOT = Buffer.from('.');
const DOT_DOT = Buffer.from('..');

export class DirOps {
  readonly #state: MountState;

  constructor(state: MountState) {
    this.#state = state;
  }

  opendir(ino: Ino): Opened {
    const known = this.#state.inodes.get(ino);
    if (known !== undefined && known.attr.type !== 'directory') throw new FsError('ENOTDIR');
    const { inodes, names, clock } = this.#state;
    const ports = {
      inodes: () => inodes.stamp(),
      names: () => names.stamp(),
      nowMs: () => clock.monotonicMs(),
      sent: () => clock.sleep(0),
    };
    return { handle: this.#state.handles.add(new DirHandle(ino, ports)), keepCache: false };
  }

  releasedir(handle: Handle): void {
    this.#state.handles.remove(handle);
  }

  readdir(
    _caller: Caller,
    handle: Handle,
    offset: number,
    maxEntries: number,
    plus: boolean,
  ): Maybe<readonly DirItem[]> {
    const opened = this.#state.handles.directory(handle);
    if (!Number.isSafeInteger(offset) || offset < 0) throw new FsError('EINVAL');
    if (offset === 0) opened.rewind();
    const inode = this.#state.inodes.get(opened.ino);
    if (inode !== undefined) this.#state.accessTimes.read(this.#state.attrOf(inode));
    const number = Math.max(0, offset - FIRST_NAME_OFFSET);
    const count = Math.max(1, maxEntries);
    const here = opened.attr === undefined ? undefined : opened.from(number, count);
    if (here !== undefined) return this.#items(opened, here, offset, count, plus);
    return opened
      .fetch(number, plus, (query) => this.#state.query<'readdir'>(query))
      .then(() => this.#items(opened, opened.from(number, count) ?? [], offset, count, plus));
  }

  #items(opened: DirHandle, listed: readonly ListedName[], offset: number, count: number, plus: boolean): DirItem[] {
    const items: DirItem[] = [];
    const nowMs = this.#state.clock.monotonicMs();
    if (offset === 0) items.push({ name: DOT, ino: opened.ino, type: 'directory', nextOffset: 1 });
    if (offset <= 1) {
      const parent = opened.attr?.parent;
      const ino = parent === undefined || parent === 0 ? opened.ino : parent;
      items.push({ name: DOT_DOT, ino, type: 'directory', nextOffset: FIRST_NAME_OFFSET });
    }
    for (let index = 0; index < listed.length && items.length < count + 2; index += 1) {
      const entry = listed[index] as ListedName;
      const nextOffset = entry.number + 1 + FIRST_NAME_OFFSET;
      const { name, ino, type } = entry;
      items.push(plus ? this.#withAttr(opened.ino, entry, nextOffset, nowMs) : { name, ino, type, nextOffset });
    }
    return items;
  }

  #withAttr(parent: Ino, listed: ListedName, nextOffset: number, nowMs: number): DirItem {
    const { name, ino, type, attr, fetchedMs, askedAt, namesAskedAt } = listed;
    if (attr === undefined) return { name, ino, type, nextOffset };
    const { inodes } = this.#state;
    const expiresMs = fetchedMs + this.#state.watched.attrValidMs(ino, askedAt, nowMs);
    const known = inodes.get(ino);
    // What is known may be newer than the listing.
    const inode =
      known !== undefined && known.attrExpiresMs >= expiresMs ? known : inodes.accept(attr, askedAt, expiresMs, false);
    const key = keyOf(parent, name);
    const nameExpiresMs = fetchedMs + this.#state.watched.nameValidMs(parent, key, askedAt, namesAskedAt, nowMs);
    this.#state.learnName(key, inode, nameExpiresMs, namesAskedAt, nowMs);
    return { name, ino, type, nextOffset, entry: this.#state.entry(inode, Math.max(0, nameExpiresMs - nowMs)) };
  }
}
