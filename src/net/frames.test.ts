import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FormatError, TatamiError, TooLargeError } from '../errors.ts';
import { FRAME_HEADER_MAX_BYTES, PAYLOAD_CHUNK_BYTES, PAYLOAD_MAX_BYTES } from '../limits.ts';
import { xxh64 } from '../xxhash.ts';
import {
  FRAME_FIXED_BYTES,
  FrameDecoder,
  FrameType,
  HANDSHAKE_LIMITS,
  OPEN_LIMITS,
  bareFrame,
  plainFrame,
  sealFrame,
} from './frames.ts';
import type { FrameLimits } from './frames.ts';

interface Seen {
  type: number;
  flags: number;
  id: number;
  header: number[];
  payloadBytes: number;
  chunk: number[];
  intact: boolean;
}

/** Decodes the pieces; every chunk gets memory of its own. */
function decode(pieces: readonly Uint8Array[], limits: FrameLimits = OPEN_LIMITS): Seen[] {
  const seen: Seen[] = [];
  let target = new Uint8Array(0);
  const decoder = new FrameDecoder(
    {
      onFrame(type, flags, id, header, payloadBytes, chunkBytes) {
        seen.push({ type, flags, id, header: [...header], payloadBytes, chunk: [], intact: true });
        return chunkBytes === 0 ? undefined : (target = new Uint8Array(chunkBytes));
      },
      onChunk(_type, _flags, _id, _chunkBytes, intact) {
        const last = seen.at(-1);
        if (last !== undefined) Object.assign(last, { chunk: [...target], intact });
      },
    },
    limits,
  );
  for (const piece of pieces) decoder.push(piece);
  return seen;
}

function frame(
  type: FrameType,
  id: number,
  header: Uint8Array,
  payloadBytes = 0,
  chunk = new Uint8Array(0),
  checked = false,
): Uint8Array {
  const head = new Uint8Array(FRAME_FIXED_BYTES + header.length);
  head.set(header, FRAME_FIXED_BYTES);
  sealFrame(head, type, 0, id, payloadBytes, chunk.length, checked ? xxh64(chunk) : undefined);
  return new Uint8Array(Buffer.concat([head, chunk]));
}

function patched(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const copy = bytes.slice();
  new DataView(copy.buffer).setUint32(at, value, true);
  return copy;
}

function split(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end));
}

describe('frames', () => {
  it('have these bytes (docs/formats.md)', () => {
    const bytes = frame(FrameType.request, 0x01020304, Uint8Array.of(0xc0), 5, Uint8Array.of(1, 2, 3), true);
    expect(Buffer.from(bytes).toString('hex')).toMatchInlineSnapshot(
      `"54544d460fd323aa4924165c0104010004030201010000000500000003000000a5e54e0cee133e74c0010203"`,
    );
    expect(Buffer.from(bareFrame(FrameType.ping, 7)).toString('hex')).toMatchInlineSnapshot(
      `"54544d4613682e4d30e769b301090000070000000000000000000000000000000000000000000000"`,
    );
  });

  it('decode however the stream is split', () => {
    const oneFrame = fc.record({
      id: fc.nat(),
      header: fc.uint8Array({ maxLength: 200 }),
      chunk: fc.uint8Array({ maxLength: 300 }),
      more: fc.nat(1000),
      checked: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(oneFrame, { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 20 }), (frames, cuts) => {
        const bytes = Buffer.concat(
          frames.map(({ id, header, chunk, more, checked }) =>
            frame(FrameType.request, id, header, chunk.length + more, chunk, checked),
          ),
        );
        const seen = decode(split(new Uint8Array(bytes), cuts));
        expect(seen).toEqual(
          frames.map(({ id, header, chunk, more, checked }) => ({
            type: FrameType.request,
            flags: checked ? 1 : 0,
            id,
            header: [...header],
            payloadBytes: chunk.length + more,
            chunk: [...chunk],
            intact: true,
          })),
        );
      }),
    );
  });

  it('are received straight into their places, in reads of any length, also when pieces are skipped meanwhile', () => {
    const chunkBytes = fc.constantFrom(0, 100, 20_000, PAYLOAD_CHUNK_BYTES);
    const frames = fc.array(fc.record({ chunkBytes, isPrivate: fc.boolean(), skipped: fc.boolean() }), {
      maxLength: 6,
    });
    fc.assert(
      fc.property(frames, fc.array(fc.integer({ min: 1, max: 300_000 }), { minLength: 1 }), (wanted, reads) => {
        const chunks = wanted.map(({ chunkBytes: length }, n) => new Uint8Array(length).map((_, at) => at * 7 + n));
        const stream = new Uint8Array(
          Buffer.concat(
            chunks.map((chunk, n) => frame(FrameType.data, n, new Uint8Array(3), chunk.length, chunk, true)),
          ),
        );
        const places: Uint8Array[] = [];
        const done: number[] = [];
        let directBytes = 0;
        const sink = {
          placeIsPrivate: false,
          onFrame(_type: FrameType, _flags: number, id: number, _header: Uint8Array, _bytes: number, length: number) {
            sink.placeIsPrivate = wanted[id]?.isPrivate === true;
            places[id] = new Uint8Array(length);
            return length === 0 ? undefined : places[id];
          },
          onChunk(_type: FrameType, _flags: number, id: number, _length: number, intact: boolean) {
            expect(intact).toBe(true);
            done.push(id);
          },
        };
        const decoder = new FrameDecoder(sink, OPEN_LIMITS);
        const own = new Uint8Array(256 * 1024);
        for (let at = 0, turn = 0; at < stream.length; turn++) {
          const place = decoder.place() ?? own;
          const id = places.length - 1;
          const skips = wanted[id]?.skipped === true && place.buffer === places[id]?.buffer;
          // As a cancelled call does: the memory was handed out and is still filled, but does not count any more.
          if (skips) decoder.skipPiece();
          const length = Math.min(reads[turn % reads.length] ?? 1, place.length, stream.length - at);
          place.set(stream.subarray(at, at + length));
          if (place !== own && place.buffer === places[id]?.buffer) directBytes += length;
          decoder.push(place.subarray(0, length));
          at += length;
        }
        for (const id of done) expect(Buffer.compare(places[id] ?? own, chunks[id] ?? own)).toBe(0);
        const mustCome = wanted.flatMap(({ chunkBytes: length, skipped }, n) => (length > 0 && !skipped ? [n] : []));
        expect(done).toEqual(expect.arrayContaining(mustCome));
        if (wanted.every(({ isPrivate }) => !isPrivate)) expect(directBytes).toBe(0);
      }),
      { numRuns: 50 },
    );
  });

  it('never throw anything but our errors, whatever comes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), fc.array(fc.nat()), (garbage, startRight, cuts) => {
        const bytes = startRight ? Buffer.concat([bareFrame(FrameType.ping, 1).subarray(0, 13), garbage]) : garbage;
        try {
          decode(split(new Uint8Array(bytes), cuts));
        } catch (error) {
          expect(error).toBeInstanceOf(TatamiError);
        }
      }),
    );
  });

  it('notice every changed bit of the head', () => {
    const good = frame(FrameType.request, 9, Uint8Array.of(1, 2, 3), 4, Uint8Array.of(5, 6, 7, 8));
    fc.assert(
      fc.property(fc.nat(8 * (FRAME_FIXED_BYTES + 3) - 1), (bit) => {
        const bad = good.slice();
        bad[bit >> 3] = (bad[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        let frameCount = 0;
        try {
          frameCount = decode([bad]).length;
        } catch (error) {
          expect(error).toBeInstanceOf(TatamiError);
        }
        expect(frameCount).toBe(0);
      }),
    );
  });

  it.each([
    ['header', 20, FRAME_HEADER_MAX_BYTES + 1],
    ['header', 20, 0xffff_ffff],
    ['payload', 24, PAYLOAD_MAX_BYTES + 1],
    ['piece', 28, PAYLOAD_CHUNK_BYTES + 1],
  ])('refuse a huge %s before the rest has come', (_what, at, value) => {
    const bytes = patched(frame(FrameType.request, 1, new Uint8Array(0), PAYLOAD_MAX_BYTES), at, value);
    expect(() => decode([bytes.subarray(0, FRAME_FIXED_BYTES)])).toThrow(TooLargeError);
  });

  it('say what is wrong with a stream of another program or version', () => {
    expect(() => decode([Buffer.from('GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n')])).toThrow(
      /not ours/,
    );
    const newer = bareFrame(FrameType.ping, 1);
    newer[12] = 2;
    expect(() => decode([newer])).toThrow(FormatError);
  });

  it('allow nothing but a small handshake before it is through', () => {
    expect(decode([plainFrame(FrameType.hello, new Uint8Array(100))], HANDSHAKE_LIMITS)).toHaveLength(1);
    expect(() => decode([plainFrame(FrameType.hello, new Uint8Array(5000))], HANDSHAKE_LIMITS)).toThrow(TooLargeError);
    expect(() => decode([bareFrame(FrameType.ping, 1)], HANDSHAKE_LIMITS)).toThrow(FormatError);
  });

  it('tell of a damaged piece without giving up the stream', () => {
    const bad = frame(FrameType.request, 1, new Uint8Array(0), 3, Uint8Array.of(1, 2, 3), true);
    bad[bad.length - 1] = 9;
    const seen = decode([new Uint8Array(Buffer.concat([bad, bareFrame(FrameType.ping, 2)]))]);
    expect(seen.map(({ intact }) => intact)).toEqual([false, true]);
  });
});
