/** What fuzz tests share: damaged bytes, values that no honest peer sends, and what may come of them. */
import fc from 'fast-check';
import { InvariantError, StateError, TatamiError } from '../../src/errors.ts';
import { MiB } from '../../src/limits.ts';

/** A decoder may take this much memory for a small input: tables and error texts, never what a length field claims. */
const MEMORY_MAX_BYTES = 8 * MiB;
/** No small input keeps a decoder busy for this long, on a busy machine either. */
const TIME_MAX_MS = 2_000;

/** The same cases each time, so that a failure is the fault of a change; FUZZ_SEED and FUZZ_RUNS look further. */
export const FUZZ = {
  seed: Number(process.env['FUZZ_SEED'] ?? 1),
  numRuns: Number(process.env['FUZZ_RUNS'] ?? 300),
};

/** Random bytes, and the samples with bits flipped, bytes replaced by extreme ones, pieces cut out or doubled. */
export function damagedBytes(samples: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const random = fc.uint8Array({ maxLength: 300 });
  if (samples.length === 0) return random;
  const edit = fc.record({
    kind: fc.constantFrom('flip', 'set', 'cut', 'double', 'truncate', 'length32'),
    at: fc.nat(),
    value: fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.integer({ min: 0, max: 255 })),
  });
  const damaged = fc
    .tuple(fc.constantFrom(...samples), fc.array(edit, { minLength: 1, maxLength: 4 }))
    .map(([sample, edits]) => edits.reduce(apply, sample));
  return fc.oneof({ weight: 1, arbitrary: random }, { weight: 4, arbitrary: damaged });
}

function apply(bytes: Uint8Array, edit: { kind: string; at: number; value: number }): Uint8Array {
  if (bytes.length === 0) return bytes;
  const at = edit.at % bytes.length;
  const buffer = Buffer.from(bytes);
  switch (edit.kind) {
    case 'flip':
      buffer[at] = (buffer[at] ?? 0) ^ (1 << (edit.value & 7));
      break;
    case 'set':
      buffer[at] = edit.value;
      break;
    case 'cut':
      return Uint8Array.from(Buffer.concat([buffer.subarray(0, at), buffer.subarray(at + 1 + (edit.value & 15))]));
    case 'double':
      return Uint8Array.from(Buffer.concat([buffer.subarray(0, at), buffer]));
    case 'truncate':
      return Uint8Array.from(buffer.subarray(0, at));
    case 'length32':
      buffer.fill(edit.value, at, Math.min(at + 4, buffer.length));
  }
  return Uint8Array.from(buffer);
}

/** Anything msgpack can carry. */
const carried = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.constantFrom<unknown>(
      null,
      undefined,
      true,
      false,
      0,
      1,
      -1,
      0.5,
      NaN,
      Infinity,
      2 ** 32,
      2 ** 53,
      -(2 ** 53),
      '',
    ),
    fc.integer(),
    fc.nat({ max: 20 }),
    fc.string({ maxLength: 40 }),
    fc.constantFrom(
      'g0',
      'n1',
      'lookup',
      'logged',
      'putNode',
      '__proto__',
      'a'.repeat(32),
      '0123456789abcdef'.repeat(2),
    ),
    fc.uint8Array({ maxLength: 40 }),
    fc.uint8Array({ minLength: 32, maxLength: 32 }),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.string({ maxLength: 6 }), tie('value'), { maxKeys: 4 }),
  ),
})).value;

/** Headers with the protocol's own field names and any values in them. */
export function hostileHeader(fields: readonly string[]): fc.Arbitrary<unknown> {
  const named = fc.dictionary(fc.constantFrom(...fields), carried, { maxKeys: 12 });
  return fc.oneof({ weight: 5, arbitrary: named }, { weight: 1, arbitrary: carried });
}

/** A valid header of which one or two fields are anything. */
export function spoiltHeader(valid: Readonly<Record<string, unknown>>): fc.Arbitrary<unknown> {
  const spoil = fc.array(fc.tuple(fc.constantFrom(...Object.keys(valid)), carried), { minLength: 1, maxLength: 2 });
  return spoil.map((changes) => ({ ...valid, ...Object.fromEntries(changes) }));
}

/** Runs the decoder: its result does not matter, but only errors about the input may come out, soon and cheaply. */
export function mustSurvive(decode: () => unknown): void {
  const before = process.memoryUsage();
  const started = performance.now();
  try {
    decode();
  } catch (error) {
    checkError(error);
  }
  const after = process.memoryUsage();
  const grown = after.arrayBuffers - before.arrayBuffers + Math.max(0, after.heapUsed - before.heapUsed);
  if (grown > MEMORY_MAX_BYTES) throw new Error(`took ${grown} bytes of memory`);
  if (performance.now() - started > TIME_MAX_MS) throw new Error(`took ${performance.now() - started} ms`);
}

/** Ours, and about the input: not the sign of a bug in this program. */
export function checkError(error: unknown): void {
  const isOurs = error instanceof TatamiError && !(error instanceof StateError) && !(error instanceof InvariantError);
  if (!isOurs || error.code === 'ERR_INTERNAL')
    throw new Error(`not an answer to bad input: ${String(error)}`, { cause: error });
}
