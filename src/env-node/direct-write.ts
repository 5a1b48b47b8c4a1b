/**
 * Long writes past the system's page cache (O_DIRECT), which would take fresh memory for each of their pages and copy them
 * there. Positions, lengths and memory must be whole sectors, so only the whole sectors of a write go this way, by way of
 * memory that is used again; what of it lies in the sectors at its two ends is left to an ordinary write. Nothing
 * depends on it but speed: where it cannot be, all is written the ordinary way (docs/decisions/0020-packs-past-the-page-cache.md).
 */
import fs from 'node:fs';
import { DIRECT_BYTES } from '../env.ts';
import { MiB } from '../limits.ts';
import { payloadPool } from '../net/buffer-pool.ts';

/** Shorter ones gain nothing: a write past the cache waits for the disk each time. */
const DIRECT_MIN_BYTES = MiB / 4;
/** Copied and written at a time. */
const STEP_BYTES = 4 * MiB;

type Write = (buffers: readonly Uint8Array[], position: number) => Promise<void>;

export class DirectWriter {
  readonly #path: string;
  #opening: Promise<number | undefined> | undefined;
  #unable = false;

  constructor(path: string) {
    this.#path = path;
  }

  /** `ordinary` writes the same file through the page cache. One at a time. Errors are those of either way. */
  async write(buffers: readonly Uint8Array[], position: number, ordinary: Write): Promise<void> {
    const end = position + buffers.reduce((sum, { length }) => sum + length, 0);
    const from = Math.ceil(position / DIRECT_BYTES) * DIRECT_BYTES;
    const to = Math.floor(end / DIRECT_BYTES) * DIRECT_BYTES;
    const fd = to - from < DIRECT_MIN_BYTES ? undefined : await this.#open();
    if (fd === undefined) return await ordinary(buffers, position);
    await ordinary(partOf(buffers, 0, from - position), position);
    const memory = payloadPool.takeAligned(Math.min(STEP_BYTES, to - from));
    try {
      for (let at = from; at < to;) {
        const step = memory.subarray(0, Math.min(memory.length, to - at));
        fill(step, partOf(buffers, at - position, at - position + step.length));
        const written = this.#unable ? 0 : await this.#writeSectors(fd, step, at);
        if (written < step.length) await ordinary([step.subarray(written)], at + written);
        at += step.length;
      }
    } finally {
      payloadPool.giveBack(memory);
    }
    await ordinary(partOf(buffers, to - position, end - position), to);
  }

  /** Not while a write is under way. */
  async close(): Promise<void> {
    this.#unable = true;
    const fd = await this.#opening;
    if (fd === undefined) return;
    await new Promise<void>((resolve, reject) => fs.close(fd, (error) => (error ? reject(error) : resolve())));
  }

  /** How many bytes were written: some file systems refuse, and all may stop early. Rejects where an ordinary write would. */
  #writeSectors(fd: number, sectors: Uint8Array, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.write(fd, sectors, 0, sectors.length, position, (error, count) => {
        if (error === null) return resolve(count);
        if (error.code !== 'EINVAL') return reject(error);
        this.#unable = true;
        resolve(0);
      });
    });
  }

  #open(): Promise<number | undefined> | undefined {
    if (this.#unable) return undefined;
    this.#opening ??= new Promise((resolve) => {
      // Whatever keeps it from being opened so, the file is open already the ordinary way.
      fs.open(this.#path, fs.constants.O_WRONLY | fs.constants.O_DIRECT, (error, fd) => {
        this.#unable = error !== null;
        resolve(error === null ? fd : undefined);
      });
    });
    return this.#opening;
  }
}

/** From byte `from` to before byte `to` of what they are together. */
function partOf(buffers: readonly Uint8Array[], from: number, to: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let begin = 0;
  for (const buffer of buffers) {
    const end = begin + buffer.length;
    if (end > from && begin < to) parts.push(buffer.subarray(Math.max(from - begin, 0), Math.min(to, end) - begin));
    begin = end;
  }
  return parts;
}

function fill(target: Uint8Array, parts: readonly Uint8Array[]): void {
  let at = 0;
  for (const part of parts) {
    target.set(part, at);
    at += part.length;
  }
}
