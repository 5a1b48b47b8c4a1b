/**
 * Which block of a store has which multihash. A cache: all of it stands in the blocks themselves (cid-trailer.ts). Rows are
 * kept in memory until there are enough to write down together, and never synced but at the end: whether the index was
 * closed in order tells whether what is in the store has to be looked through.
 *
 * Rows: `m` multihash -> version u8, flags u8 (1: the bytes were checked against the multihash), zero u16, length of the
 * data u32, block id; `i` block id -> version u8, multihash (none: a block without a CID, or one that is not used);
 * `s` -> version u8, closed in order u8. Little-endian.
 */
import { FormatError } from '../errors.ts';
import { BLOCK_ID_BYTES, type BlockId } from '../ids.ts';
import type { Kv, KvOp } from '../env.ts';

const VERSION = 1;
const ROW_BYTES = 8 + BLOCK_ID_BYTES;
const PROVEN = 1;
const STATE_KEY = Uint8Array.of(0x73);
/** Rows held back in memory before they are written together. */
const FLUSH_ROWS = 1024;
/** The index could not be written for long: now it is waited for. */
const BACKLOG_MAX_ROWS = 100_000;

export interface CidRow {
  readonly id: BlockId;
  /** Of the data, without the trailer. */
  readonly lengthBytes: number;
  /** Whether the bytes were checked against the multihash, or put by who is trusted to have done so. */
  readonly proven: boolean;
}

export class CidIndex {
  readonly #kv: Kv | undefined;
  /** Rows newer than the Kv's, by key, one character a byte; null: to be deleted. Without a Kv: all. */
  readonly #overlay = new Map<string, Uint8Array | null>();
  #flushing: Promise<void> | undefined;
  /** All that the store had when it was last closed is in here. */
  readonly wasComplete: boolean;

  private constructor(kv: Kv | undefined, wasComplete: boolean) {
    this.#kv = kv;
    this.wasComplete = wasComplete;
  }

  /**
   * Without a Kv it is in memory alone, and empty.
   *
   * @throws FormatError if a newer version wrote it.
   */
  static async open(kv: Kv | undefined): Promise<CidIndex> {
    const state = kv?.get(STATE_KEY);
    if (kv === undefined || state === undefined) return new CidIndex(kv, false);
    checkVersion(state[0]);
    const wasComplete = state[1] === 1;
    // Durably, before anything changes: from now on what is in the packs and what is in here may differ.
    if (wasComplete) await kv.batch([{ key: STATE_KEY, value: Uint8Array.of(VERSION, 0) }], { sync: true });
    return new CidIndex(kv, wasComplete);
  }

  find(multihash: Uint8Array): CidRow | undefined {
    const value = this.#get(rowKey('m', multihash));
    if (value === undefined) return undefined;
    checkVersion(value[0]);
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    return {
      id: new Uint8Array(value.subarray(8, ROW_BYTES)) as BlockId,
      lengthBytes: view.getUint32(4, true),
      proven: (view.getUint8(1) & PROVEN) !== 0,
    };
  }

  /** The multihash of a block, empty if it is to be passed over; undefined if it has not been looked at. */
  multihashOf(id: BlockId): Uint8Array | undefined {
    const value = this.#get(rowKey('i', id));
    if (value === undefined) return undefined;
    checkVersion(value[0]);
    return value.subarray(1);
  }

  set(multihash: Uint8Array, row: CidRow): void {
    const value = new Uint8Array(ROW_BYTES);
    const view = new DataView(value.buffer);
    view.setUint8(0, VERSION);
    view.setUint8(1, row.proven ? PROVEN : 0);
    view.setUint32(4, row.lengthBytes, true);
    value.set(row.id, 8);
    this.#overlay.set(rowKey('m', multihash), value);
    this.note(row.id, multihash);
  }

  /** Remembers what a block is called, or that it is to be passed over, without finding it by that name. */
  note(id: BlockId, multihash: Uint8Array): void {
    const value = new Uint8Array(1 + multihash.length);
    value[0] = VERSION;
    value.set(multihash, 1);
    this.#overlay.set(rowKey('i', id), value);
  }

  /** Forgets the name; with `id`, the block too. */
  forget(multihash: Uint8Array, id?: BlockId): void {
    this.#drop(rowKey('m', multihash));
    if (id !== undefined) this.#drop(rowKey('i', id));
  }

  /** Call after changes: resolves at once, but where too much waits to be written. */
  async settle(): Promise<void> {
    if (this.#kv === undefined || this.#overlay.size < FLUSH_ROWS) return;
    // Not written is not lost: it waits for the next time, or is found in the store again.
    const flushing = this.#flush(this.#kv, false).catch(() => undefined);
    if (this.#overlay.size > BACKLOG_MAX_ROWS) await flushing;
  }

  /** Writes everything down; with `complete` the next opening need not look through the store. */
  async close(complete: boolean): Promise<void> {
    if (this.#kv === undefined) return;
    try {
      await this.#flushing?.catch(() => undefined);
      if (complete) {
        await this.#flush(this.#kv, true);
        await this.#kv.batch([{ key: STATE_KEY, value: Uint8Array.of(VERSION, 1) }], { sync: true });
      }
    } finally {
      await this.#kv.close();
    }
  }

  #get(key: string): Uint8Array | undefined {
    const pending = this.#overlay.get(key);
    if (pending !== undefined) return pending ?? undefined;
    return this.#kv?.get(Buffer.from(key, 'latin1'));
  }

  #drop(key: string): void {
    if (this.#kv === undefined) this.#overlay.delete(key);
    else this.#overlay.set(key, null);
  }

  #flush(kv: Kv, sync: boolean): Promise<void> {
    this.#flushing ??= this.#flushNow(kv, sync).finally(() => (this.#flushing = undefined));
    return this.#flushing;
  }

  async #flushNow(kv: Kv, sync: boolean): Promise<void> {
    const pending = [...this.#overlay];
    const ops = pending.map(([key, value]): KvOp => {
      const bytes = Buffer.from(key, 'latin1');
      return value === null ? { key: bytes } : { key: bytes, value };
    });
    // The state is written anew each time: an index that has rows has a state, too.
    await kv.batch([...ops, { key: STATE_KEY, value: Uint8Array.of(VERSION, 0) }], { sync });
    for (const [key, value] of pending) if (this.#overlay.get(key) === value) this.#overlay.delete(key);
  }
}

function rowKey(kind: 'm' | 'i', bytes: Uint8Array): string {
  return kind + Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

function checkVersion(version: number | undefined): void {
  if (version === VERSION) return;
  throw new FormatError(`the index of CIDs is of format ${version}, this program reads ${VERSION}`, {
    remedy: 'Use the newer version of tatamifs that wrote it, or delete the index: it is made anew from the blocks.',
  });
}
