/**
 * What this mount knows of a file's committed extents: all of one contiguous range of the file, at one version. Own
 * commits are applied to it, so that a file that only we change is asked for once.
 */
import type { Extent } from '../meta/types.ts';
import { extentEnd, sliceExtent } from '../meta/extents.ts';
import type { BlockId } from '../ids.ts';
import type { CachedBlock } from './block-cache.ts';
import { EXTENTS_KEPT } from './options.ts';

export interface MappedExtent {
  readonly extent: Extent;
  readonly offset: number;
  readonly end: number;
  /** The cache's entry of the whole block, when it was last seen there; it may have been evicted since. */
  block: CachedBlock | undefined;
}

function mapped(extent: Extent, block?: CachedBlock): MappedExtent {
  return { extent: detached(extent), offset: extent.offset, end: extentEnd(extent), block };
}

/** An answer of the servers is one buffer of up to some MiB: none of it may stay because of 32 bytes in it. */
function detached(extent: Extent): Extent {
  if (extent.kind === 'inline') {
    const { data } = extent;
    return data.buffer.byteLength <= 2 * data.length ? extent : { ...extent, data: new Uint8Array(data) };
  }
  const { id } = extent;
  return id.buffer.byteLength <= 2 * id.length ? extent : { ...extent, id: new Uint8Array(id) as BlockId };
}

/** Of the objects that tell of one extent; measured, rounded up. */
const EXTENT_BYTES = 400;

function bytesOf({ extent }: MappedExtent): number {
  return EXTENT_BYTES + (extent.kind === 'inline' ? extent.data.buffer.byteLength : 0);
}

/** Memory for what is known of extents, in all files of a mount: beyond it the maps that grew longest ago forget theirs. */
export class ExtentMemory {
  readonly maxBytes: number;
  /** The one that grew last at the end. */
  readonly #maps = new Map<ExtentMap, number>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  get usedBytes(): number {
    return this.#bytes;
  }

  /** The map has so much now; true if that alone is too much. */
  hold(map: ExtentMap, bytes: number): boolean {
    this.#bytes += bytes - (this.#maps.get(map) ?? 0);
    this.#maps.delete(map);
    if (bytes > 0) this.#maps.set(map, bytes);
    for (const other of this.#maps.keys()) {
      if (this.#bytes <= this.maxBytes || other === map) break;
      other.forget();
    }
    return this.#bytes > this.maxBytes;
  }
}

export class ExtentMap {
  readonly #memory: ExtentMemory;
  #bytes = 0;
  /** The file's version these extents belong to; -1 knows nothing. */
  version = -1;
  #from = 0;
  #to = 0;
  #list: MappedExtent[] = [];
  #hint = 0;

  constructor(memory: ExtentMemory) {
    this.#memory = memory;
  }

  get knownTo(): number {
    return this.#to;
  }

  forget(): void {
    this.version = -1;
    this.#from = this.#to = 0;
    this.#list = [];
    this.#bytes = 0;
    this.#memory.hold(this, 0);
  }

  /** The whole file is one hole. */
  setEmpty(version: number): void {
    this.forget();
    this.version = version;
    this.#to = Infinity;
  }

  knows(version: number, from: number, to: number): boolean {
    return this.version === version && from >= this.#from && to <= this.#to;
  }

  /**
   * Takes in a reply: the extents that touch the file from `from` on, all of them or (`more`) the first ones. `neededFrom`: whoever
   * asked looks at what lies from there on, too, though it may be more than is kept else.
   */
  load(version: number, from: number, extents: readonly Extent[], more: boolean, neededFrom = from): void {
    const last = extents[extents.length - 1];
    const to = more && last !== undefined ? extentEnd(last) : Infinity;
    if (neededFrom < from && this.#list.length >= EXTENTS_KEPT) this.#forgetBefore(neededFrom);
    const isFull = this.#list.length >= EXTENTS_KEPT && (neededFrom >= from || neededFrom < this.#from);
    const continues = this.version === version && from >= this.#from && from <= this.#to && !isFull;
    if (!continues) return this.#replace(version, from, to, extents);
    if (to <= this.#to) return;
    // The first of the reply may begin before the range known so far ends.
    for (const extent of extents) {
      if (extentEnd(extent) <= this.#to) continue;
      const known = this.#list[this.#list.length - 1];
      if (known !== undefined && known.end > extent.offset) continue;
      this.#add(this.#list.length, 0, [mapped(extent)]);
    }
    this.#to = to;
    if (this.#memory.hold(this, this.#bytes)) this.#replace(version, from, to, extents);
  }

  #replace(version: number, from: number, to: number, extents: readonly Extent[]): void {
    this.version = version;
    this.#from = from;
    this.#to = to;
    this.#list = [];
    this.#bytes = 0;
    this.#add(
      0,
      0,
      extents.map((extent) => mapped(extent)),
    );
    // One answer may be more than the bound: whoever asked looks at it now.
    this.#memory.hold(this, this.#bytes);
  }

  #forgetBefore(offset: number): void {
    if (offset <= this.#from || offset > this.#to) return;
    this.#add(0, this.find(offset), []);
    this.#from = offset;
  }

  #add(index: number, instead: number, pieces: readonly MappedExtent[]): void {
    for (const piece of pieces) this.#bytes += bytesOf(piece);
    if (instead === 0 && index === this.#list.length) {
      for (const piece of pieces) this.#list.push(piece);
      return;
    }
    for (const piece of this.#list.splice(index, instead, ...pieces)) this.#bytes -= bytesOf(piece);
  }

  /** What own changes have added is known unless it is too much. */
  #grew(): void {
    const isTooMuch = this.#memory.hold(this, this.#bytes);
    if (isTooMuch || this.#list.length > EXTENTS_KEPT) this.forget();
  }

  /** Index of the first extent that ends after `offset`. */
  find(offset: number): number {
    const list = this.#list;
    // Sequential readers come back to where they were, or to the next.
    for (let index = this.#hint; index < this.#hint + 2; index += 1) {
      const here = list[index];
      if (here === undefined || here.end <= offset) continue;
      const before = list[index - 1];
      if (before === undefined || before.end <= offset) return (this.#hint = index);
      break;
    }
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((list[middle] as MappedExtent).end > offset) high = middle;
      else low = middle + 1;
    }
    this.#hint = low;
    return low;
  }

  at(index: number): MappedExtent | undefined {
    return this.#list[index];
  }

  /** Number of extents that touch the range. */
  count(from: number, to: number): number {
    let index = this.find(from);
    const first = index;
    for (let here = this.#list[index]; here !== undefined && here.offset < to; here = this.#list[index]) index += 1;
    return index - first;
  }

  /** Number of extents in the range that begin where another one ends. */
  joints(from: number, to: number): number {
    let found = 0;
    let index = this.find(from);
    let end = -1;
    for (let here = this.#list[index]; here !== undefined && here.offset < to; here = this.#list[index]) {
      if (here.offset === end) found += 1;
      ({ end } = here);
      index += 1;
    }
    return found;
  }

  /** An own commit made `version` of the version before; it only replaced these ranges. */
  apply(version: number, added: readonly Extent[]): void {
    if (this.version !== version - 1) {
      if (this.version !== version) this.forget();
      return;
    }
    this.version = version;
    for (const extent of added) {
      const end = extentEnd(extent);
      if (end <= this.#from || extent.offset >= this.#to) continue;
      this.#cut(extent.offset, end, mapped(extent));
    }
    this.#grew();
  }

  /** An own clone replaced [from, to) by these extents and holes between them. */
  applyClone(version: number, from: number, to: number, added: readonly Extent[]): void {
    const wasNext = this.version === version - 1;
    this.applyPunch(version, from, to);
    if (!wasNext) return;
    for (const extent of added) {
      if (extentEnd(extent) <= this.#from || extent.offset >= this.#to) continue;
      this.#cut(extent.offset, extentEnd(extent), mapped(extent));
    }
    this.#grew();
  }

  applyPunch(version: number, from: number, to: number): void {
    if (this.version !== version - 1) {
      if (this.version !== version) this.forget();
      return;
    }
    this.version = version;
    this.#cut(from, to, undefined);
  }

  #cut(from: number, to: number, instead: MappedExtent | undefined): void {
    const list = this.#list;
    const low = this.find(from);
    let high = low;
    const pieces: MappedExtent[] = [];
    for (let here = list[high]; here !== undefined && here.offset < to; here = list[high]) {
      if (here.offset < from) pieces.push(mapped(sliceExtent(here.extent, here.offset, from), here.block));
      high += 1;
    }
    if (instead !== undefined) pieces.push(instead);
    const final = list[high - 1];
    if (high > low && final !== undefined && final.end > to) {
      pieces.push(mapped(sliceExtent(final.extent, to, final.end), final.block));
    }
    this.#add(low, high - low, pieces);
  }
}
