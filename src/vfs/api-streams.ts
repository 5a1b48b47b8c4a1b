/** Streams over an open file, or one that is opened when the stream starts. */
import { Readable, Writable } from 'node:stream';
import type { FileHandle } from './api-handle.ts';

/** Bytes of one step: a quarter of a block, so that what has arrived is soon passed on. */
export const STEP_BYTES = 1024 * 1024;

/** How a file is streamed; as in `node:fs`. */
export interface StreamOptions {
  /** Reading: chunks are strings. Writing: of strings that come without one. */
  readonly encoding?: BufferEncoding;
  /** First byte. */
  readonly start?: number;
  /** Last byte, inclusive (reading only). */
  readonly end?: number;
  /** Bytes of one step, and of what waits in the stream. Default 1 MiB. */
  readonly highWaterMark?: number;
  /** False leaves the file open at the stream's end. */
  readonly autoClose?: boolean;
  /** Destroys the stream. */
  readonly signal?: AbortSignal;
}

type Done = (error?: Error | null) => void;

function settle(work: Promise<unknown>, done: Done): void {
  work.then(
    () => done(),
    (error: unknown) => done(error as Error),
  );
}

/** Closes the file, unless it shall stay open; an earlier error is the one that counts. */
function end(file: FileHandle | undefined, options: StreamOptions, error: Error | null, done: Done): void {
  if (file === undefined || options.autoClose === false) return done(error);
  settle(file.close(), (failure) => done(error ?? failure ?? null));
}

/** From `start` (default: where the handle is) to `end`. */
export function readStream(open: () => Promise<FileHandle>, options: StreamOptions): Readable {
  const stepBytes = options.highWaterMark ?? STEP_BYTES;
  const last = options.end ?? Infinity;
  let file: FileHandle;
  let opened: FileHandle | undefined;
  let at = options.start;
  return new Readable({
    highWaterMark: stepBytes,
    ...(options.encoding === undefined ? {} : { encoding: options.encoding }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    construct(done) {
      const start = async (): Promise<void> => {
        file = opened = await open();
        at ??= file.position;
      };
      settle(start(), done);
    },
    read() {
      const from = at ?? 0;
      file.readBytes(from, Math.min(stepBytes, Math.max(0, last - from + 1))).then(
        (data) => {
          at = from + data.length;
          this.push(data.length === 0 ? null : data);
        },
        (error: unknown) => this.destroy(error as Error),
      );
    },
    destroy(error, done) {
      end(opened, options, error, done);
    },
  });
}

/** From `start`, or where the handle is. Errors of writing back show before 'finish'. */
export function writeStream(open: () => Promise<FileHandle>, options: StreamOptions): Writable {
  let file: FileHandle;
  let opened: FileHandle | undefined;
  let at = options.start;
  return new Writable({
    highWaterMark: options.highWaterMark ?? STEP_BYTES,
    ...(options.encoding === undefined ? {} : { defaultEncoding: options.encoding }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    construct(done) {
      const start = async (): Promise<void> => {
        file = opened = await open();
      };
      settle(start(), done);
    },
    write(chunk: Buffer, _encoding, done) {
      const position = at ?? null;
      if (at !== undefined) at += chunk.length;
      settle(file.write(chunk, 0, chunk.length, position), done);
    },
    final(done) {
      settle(options.autoClose === false ? file.flush() : file.close(), done);
    },
    destroy(error, done) {
      end(opened, options, error, done);
    },
  });
}
