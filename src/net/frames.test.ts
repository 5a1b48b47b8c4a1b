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
