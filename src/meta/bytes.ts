/**
 * Reading and writing of fixed-layout bytes (little endian) for values, commands and outcomes. The reader checks every
 * length and range: what it reads comes from a disk or a network.
 */
import { viewOf } from '../data-view.ts';
import { FormatError, StateError } from '../errors.ts';

// By DataView and not by Buffer's methods, which are JavaScript: until they are compiled, which takes thousands of
// operations, a number costs five to ten times as much.

const GROW_FROM_BYTES = 1024;
const TWO_32 = 0x1_0000_0000;

export function putU16(view: DataView, at: number, value: number): void {
  if ((value & 0xffff) !== value) throw new StateError(`not an integer from 0 to 2^16-1: ${value}`);
  view.setUint16(at, value, true);
}

export function putU32(view: DataView, at: number, value: number): void {
  if (value >>> 0 !== value) throw new StateError(`not an integer from 0 to 2^32-1: ${value}`);
  view.setUint32(at, value, true);
}

/** An integer up to 2^53-1 in eight bytes. */
export function putU53(view: DataView, at: number, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new StateError(`not an integer from 0 to 2^53-1: ${value}`);
  view.setUint32(at, value % TWO_32, true);
  view.setUint32(at + 4, value / TWO_32, true);
}

export function putI64(view: DataView, at: number, value: bigint): void {
  if (BigInt.asIntN(64, value) !== value) throw new StateError(`not an integer of 64 bits: ${value}`);
  view.setBigInt64(at, value, true);
}

export function getU53(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * TWO_32 + view.getUint32(at, true);
}

/** Collects bytes in one reused buffer; {@link ByteWriter.finish} copies them out. */
export class ByteWriter {
  #buffer: Buffer = Buffer.allocUnsafeSlow(GROW_FROM_BYTES);
  #view = viewOf(this.#buffer);
  #length = 0;

  #reserve(byteCount: number): number {
    const at = this.#length;
    const needed = at + byteCount;
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2));
      this.#buffer.copy(grown, 0, 0, at);
      this.#buffer = grown;
      this.#view = viewOf(grown);
    }
    this.#length = needed;
    return at;
  }

  u8(value: number): this {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
    return this;
  }
  u16(value: number): this {
    const at = this.#reserve(2);
    putU16(this.#view, at, value);
    return this;
  }
  u32(value: number): this {
    const at = this.#reserve(4);
    putU32(this.#view, at, value);
    return this;
  }
  /** An integer up to 2^53-1 in eight bytes. */
  u53(value: number): this {
    const at = this.#reserve(8);
    putU53(this.#view, at, value);
    return this;
  }
  i64(value: bigint): this {
    const at = this.#reserve(8);
    putI64(this.#view, at, value);
    return this;
  }
  raw(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length);
    this.#buffer.set(bytes, at);
    return this;
  }
  /** Length (u16), then the bytes. */
  bytes16(bytes: Uint8Array): this {
    return this.u16(bytes.length).raw(bytes);
  }
  /** Length (u32), then the bytes. */
  bytes32(bytes: Uint8Array): this {
    return this.u32(bytes.length).raw(bytes);
  }
  /** Length (u16), then UTF-8. */
  text(text: string): this {
    return this.bytes16(Buffer.from(text, 'utf8'));
  }

  /** A copy of what was written; the writer starts anew. */
  finish(): Uint8Array {
    const copy = Buffer.allocUnsafe(this.#length);
    this.#buffer.copy(copy, 0, 0, this.#length);
    this.#length = 0;
    return copy;
  }

  /** Drops what was written, for example after an error half-way. */
  reset(): this {
    this.#length = 0;
    return this;
  }
}

/** Throws FormatError when the bytes end too early, are too many, or a number is out of range. */
export class ByteReader {
  readonly #what: string;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  /** `what` names the bytes in errors. */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.#what = what;
  }

  #take(byteCount: number): number {
    const at = this.#at;
    if (at + byteCount > this.#bytes.length) this.fail('it ends too early');
    this.#at = at + byteCount;
    return at;
  }

  fail(why: string): never {
    throw new FormatError(`${this.#what} cannot be read: ${why}`);
  }

  u8(): number {
    return this.#bytes[this.#take(1)]!;
  }
  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }
  u53(): number {
    const at = this.#take(8);
    const value = getU53(this.#view, at);
    if (value > Number.MAX_SAFE_INTEGER) this.fail('a number exceeds 2^53');
    return value;
  }
  i64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true);
  }
  flag(): boolean {
    const value = this.u8();
    if (value > 1) this.fail('a flag is neither 0 nor 1');
    return value === 1;
  }
  /** A view, not a copy. */
  raw(byteCount: number): Uint8Array {
    const at = this.#take(byteCount);
    return this.#bytes.subarray(at, at + byteCount);
  }
  bytes16(): Uint8Array {
    return this.raw(this.u16());
  }
  bytes32(): Uint8Array {
    return this.raw(this.u32());
  }
  text(): string {
    return Buffer.from(this.bytes16()).toString('utf8');
  }
  /** All that is left. */
  rest(): Uint8Array {
    return this.raw(this.#bytes.length - this.#at);
  }
  get done(): boolean {
    return this.#at === this.#bytes.length;
  }
  /** Asserts that nothing is left. */
  end(): void {
    if (!this.done) this.fail('there are bytes after its end');
  }
  /** The format version, which must be one this program knows. */
  version(known: number): number {
    const version = this.u8();
    if (version > known || version === 0) {
      throw new FormatError(`${this.#what} has format version ${version}; this program knows up to ${known}`, {
        remedy: 'Run a newer tatamifs on this node.',
      });
    }
    return version;
  }
}

/**
 * The text of bytes that are mostly the same as the last time: comparing a few bytes is far cheaper than making a
 * string, and the string is then one object everywhere.
 */
export class TextMemo {
  #bytes = new Uint8Array(0);
  #text = '';

  of(bytes: Uint8Array, encoding: 'latin1' | 'hex'): string {
    if (isEqual(bytes, this.#bytes)) return this.#text;
    this.#text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString(encoding);
    this.#bytes = new Uint8Array(bytes);
    return this.#text;
  }
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
