/** What a block's bytes may come as, and how they become one piece. */
import type { CancelSignal } from '../cancel.ts';
import { StateError, TooLargeError } from '../errors.ts';
import { BLOCK_MAX_BYTES } from '../limits.ts';
import { Intake, type Source } from './many.ts';

/**
 * The bytes of one block: whole, or in chunks of any size (a `Readable`, a web stream, a generator). Chunks are copied
 * as they come; a whole one must not change until the call has resolved.
 */
export type BlockSource = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/**
 * All of the source in one piece. A source that turns out to be longer than `maxBytes` is closed, not read to its end.
 *
 * @throws TooLargeError; StateError for what is no bytes; CancelledError; what the source throws.
 */
export async function gather(
  source: BlockSource,
  signal?: CancelSignal,
  maxBytes: number = BLOCK_MAX_BYTES,
): Promise<Uint8Array> {
  if (source instanceof Uint8Array) return source;
  const intake = new Intake(asChunks(source), signal);
  const chunks: Uint8Array[] = [];
  let lengthBytes = 0;
  try {
    for (let next = await intake.next(); next.done !== true; next = await intake.next()) {
      const chunk = next.value;
      checkBytes(chunk);
      lengthBytes += chunk.length;
      if (lengthBytes > maxBytes) {
        throw new TooLargeError(`a block has at most ${maxBytes} bytes, and this source has more`, {
          remedy: 'Use putStream, which cuts a stream into blocks.',
        });
      }
      // A copy, unless all of it comes at once: the source may use its buffer again for the next chunk.
      chunks.push(new Uint8Array(chunk));
    }
  } finally {
    await intake.close();
  }
  const [only] = chunks;
  if (only !== undefined && chunks.length === 1) return only;
  const whole = new Uint8Array(lengthBytes);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

/** Throws StateError unless given bytes: a string, for example, has a length too. */
export function checkBytes(chunk: unknown): asserts chunk is Uint8Array {
  if (chunk instanceof Uint8Array) return;
  const kind = chunk === null ? 'null' : typeof chunk === 'object' ? chunk.constructor?.name : `a ${typeof chunk}`;
  throw new StateError(`bytes are wanted (Uint8Array or Buffer), not ${kind ?? 'an object'}`, {
    remedy:
      typeof chunk === 'string'
        ? 'Encode text first: Buffer.from(text), or open the stream without an encoding.'
        : 'Wrap it: new Uint8Array(...), or give a stream of such chunks.',
  });
}

function asChunks(source: unknown): Source<Uint8Array> {
  if (typeof source === 'object' && source !== null && (Symbol.asyncIterator in source || Symbol.iterator in source))
    return source as Source<Uint8Array>;
  checkBytes(source);
  return [source];
}
