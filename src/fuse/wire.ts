/**
 * Little-endian 64 bit fields and times without bigint arithmetic: a bigint division per time stamp would cost more
 * than all the rest of a getattr reply.
 */
const TWO_32 = 4294967296;

/** Exact up to 2^53-1; a larger value comes out larger than Number.MAX_SAFE_INTEGER, which callers check where it matters. */
export function getU64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * TWO_32 + view.getUint32(at, true);
}

/** `value` is an integer, 0 <= value <= 2^53-1. */
export function setU64(view: DataView, at: number, value: number): void {
  const low = value >>> 0;
  view.setUint32(at, low, true);
  view.setUint32(at + 4, (value - low) / TWO_32, true);
}

const scratch = new DataView(new ArrayBuffer(8));

/**
 * Writes a time as seconds (signed, 64 bits) at `secondsAt` and nanoseconds (0..999999999) at `nanosAt`. `ns` must lie within
 * 64 bits, signed (the years 1677 to 2262); what is outside is clamped.
 */
export function setTime(view: DataView, secondsAt: number, nanosAt: number, ns: bigint): void {
  if (ns > MAX_TIME || ns < MIN_TIME) ns = ns > 0n ? MAX_TIME : MIN_TIME;
  scratch.setBigInt64(0, ns, true);
  const low = scratch.getUint32(0, true);
  const high = scratch.getInt32(4, true);
  // ns = high * 2^32 + low and 2^32 = 4e9 + 294967296. With high = 1000 q + r every product below stays under 2^53:
  // high * 294967296 = q * 294e9 + q * 967296000 + r * 294967296.
  const q = Math.floor(high / 1000);
  const r = high - q * 1000;
  const rest = q * 967296000 + r * 294967296 + low;
  const carry = Math.floor(rest / 1e9);
  const seconds = 4 * high + 294 * q + carry;
  view.setUint32(nanosAt, rest - carry * 1e9, true);
  view.setUint32(secondsAt, seconds >>> 0, true);
  view.setInt32(secondsAt + 4, Math.floor(seconds / TWO_32), true);
}

const MAX_TIME = (1n << 63n) - 1n;
const MIN_TIME = -(1n << 63n);

/** Inverse of {@link setTime}. */
export function getTime(view: DataView, secondsAt: number, nanosAt: number): bigint {
  return view.getBigInt64(secondsAt, true) * 1_000_000_000n + BigInt(view.getUint32(nanosAt, true));
}

/** Writes a duration as seconds at `secondsAt` (64 bits) and nanoseconds at `nanosAt`; never negative, at most some 100 years. */
export function setTimeout64(view: DataView, secondsAt: number, nanosAt: number, ms: number): void {
  const bounded = ms > 0 ? Math.min(ms, 3.2e12) : 0;
  const seconds = Math.floor(bounded / 1000);
  setU64(view, secondsAt, seconds);
  view.setUint32(nanosAt, Math.floor((bounded - seconds * 1000) * 1e6), true);
}
