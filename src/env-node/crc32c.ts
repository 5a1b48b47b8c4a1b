/** CRC-32C (Castagnoli), as LevelDB's files have it. Eight bytes a step ("slicing by eight"): about 1 GB/s. */

const POLYNOMIAL = 0x82f63b78;

/** Table k maps a byte to its effect after k further zero bytes. */
const tables: readonly Int32Array[] = makeTables();

function makeTables(): Int32Array[] {
  const first = new Int32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    first[byte] = crc;
  }
  const made = [first];
  for (let k = 1; k < 8; k++) {
    const before = made[k - 1] as Int32Array;
    made.push(Int32Array.from(before, (crc) => (crc >>> 8) ^ (first[crc & 0xff] as number)));
  }
  return made;
}

/** Of bytes [start, end), 0 <= n < 2^32. */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as readonly [
    ...[Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array],
  ];
  let crc = -1;
  let at = start;
  // Within [start, end) every index is in range.
  const byte = (index: number): number => bytes[index] as number;
  for (const last = end - 8; at <= last; at += 8) {
    const low = crc ^ (byte(at) | (byte(at + 1) << 8) | (byte(at + 2) << 16) | (byte(at + 3) << 24));
    crc =
      (t7[low & 0xff] as number) ^
      (t6[(low >>> 8) & 0xff] as number) ^
      (t5[(low >>> 16) & 0xff] as number) ^
      (t4[low >>> 24] as number) ^
      (t3[byte(at + 4)] as number) ^
      (t2[byte(at + 5)] as number) ^
      (t1[byte(at + 6)] as number) ^
      (t0[byte(at + 7)] as number);
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ (t0[(crc ^ byte(at)) & 0xff] as number);
  return ~crc >>> 0;
}
