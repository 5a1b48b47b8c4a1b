/**
 * The open /dev/fuse: the only shell of the kernel binding. Requests are read by the event loop itself when it polls
 * (device-poll.ts) or, should that not be possible, by a few fs.read calls that wait in libuv's thread pool. Replies
 * are written synchronously, because a reply never blocks and a hop to a thread would cost more than the copy.
 * Notifications can block on locks whose holders wait for our replies, so they go through the thread pool, one of a kind at a time.
 */
import { closeSync, openSync, read, writeSync, writev, writevSync } from 'node:fs';
import { FsError, UsageError } from '../errors.ts';
import type { RequestBytes } from './codec-request.ts';
import { pollDevice, type DevicePoller } from './device-poll.ts';
import { Notifications } from './notifications.ts';
import { IN_HEADER_BYTES, REQUEST_BUFFER_BYTES } from './protocol.ts';
import type { ReplySink } from './session.ts';
import { withCause, type FuseLog, type MountEnd } from './types.ts';

export const DEVICE_PATH = '/dev/fuse';
/** With threads: one fetches the next request while the other's is on its way to the event loop. */
const FALLBACK_OUTSTANDING_READS = 2;
/** One writev takes at most so many pieces (IOV_MAX); more are joined first. */
const IOV_MAX = 1024;

export class FuseDevice implements ReplySink {
  readonly fd: number;
  readonly closed: Promise<MountEnd>;
  readonly #log: FuseLog;
  #resolveClosed!: (end: MountEnd) => void;
  #waitingReads = 0;
  #end: MountEnd | undefined;
  /**
   * Apart from each other: one about pages waits for whoever reads them, one about a name for the directory's lock, whose holder may
   * wait for an answer that waits for one of the others.
   */
  readonly #notifications = { pages: this.#queue(), attributes: this.#queue(), names: this.#queue() };
  /** Replies can be written. */
  #fdOpen = true;
  #released = false;
  #poller: DevicePoller | undefined;
  #releaseFd: (() => void) | undefined;
  #closing = false;

  private constructor(fd: number, log: FuseLog) {
    this.fd = fd;
    this.#log = log;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
  }

  /** Throws UsageError with a remedy if the device is missing or may not be opened. */
  static open(log: FuseLog): FuseDevice {
    try {
      return new FuseDevice(openSync(DEVICE_PATH, 'r+'), log);
    } catch (cause) {
      throw deviceError(cause);
    }
  }

  /** Takes over a descriptor of the device that is mounted already. */
  static adopt(fd: number, log: FuseLog): FuseDevice {
    return new FuseDevice(fd, log);
  }

  /**
   * Begins to read requests, which are given to `handle` one at a time. Only after the descriptor was mounted.
   * outstandingReads 0: the event loop polls the device (measured 1.6 times faster on small requests).
   */
  start(handle: (message: RequestBytes) => void, outstandingReads: number): void {
    if (outstandingReads === 0) {
      const buffer = new RequestBuffer(Buffer.allocUnsafeSlow(REQUEST_BUFFER_BYTES));
      this.#poller = pollDevice(this.fd, buffer.bytes, {
        message: (length) => this.#take(buffer, length, handle),
        // The descriptor is the poller's: it closes it after a notification that is under way.
        ending: (error, close) => {
          this.#fdOpen = false;
          this.#releaseFd = close;
          this.#stop(error);
        },
      });
      if (this.#poller !== undefined) return;
      this.#log('This version of Node cannot poll the FUSE device; it is read by threads, which is slower.');
      outstandingReads = FALLBACK_OUTSTANDING_READS;
    }
    for (let i = 0; i < outstandingReads; i++) {
      const bytes = Buffer.allocUnsafeSlow(REQUEST_BUFFER_BYTES);
      this.#readInto(new RequestBuffer(bytes), handle);
    }
  }

  #readInto(buffer: RequestBuffer, handle: (message: RequestBytes) => void): void {
    this.#waitingReads++;
    const arrived = (error: NodeJS.ErrnoException | null, length: number): void => {
      if (error === null) {
        this.#take(buffer, length, handle);
      } else if (!isPassing(error)) {
        this.#waitingReads--;
        this.#stop(error);
        return;
      }
      if (this.#end !== undefined) {
        this.#waitingReads--;
        this.#stop(null);
        return;
      }
      read(this.fd, buffer.bytes, 0, REQUEST_BUFFER_BYTES, null, arrived);
    };
    read(this.fd, buffer.bytes, 0, REQUEST_BUFFER_BYTES, null, arrived);
  }

  #take(buffer: RequestBuffer, length: number, handle: (message: RequestBytes) => void): void {
    buffer.length = length;
    if (length < IN_HEADER_BYTES) return;
    try {
      handle(buffer);
    } catch (failure) {
      this.#log(withCause('A FUSE request could not be handled.', failure));
    }
  }

  #stop(error: NodeJS.ErrnoException | null): void {
    if (this.#end === undefined) {
      const code = error?.code;
      if (code === 'ENODEV') this.#end = { reason: 'unmounted' };
      else if (code === 'ECONNABORTED') this.#end = { reason: 'aborted' };
      else this.#end = { reason: 'failed', error };
    }
    if (this.#waitingReads === 0) this.close();
  }

  send(bytes: Buffer, length: number): boolean {
    if (!this.#fdOpen) return false;
    try {
      writeSync(this.fd, bytes, 0, length);
      return true;
    } catch (error) {
      this.#replyFailed(error);
      return false;
    }
  }

  sendData(header: Buffer, chunks: readonly Uint8Array[], dataBytes: number, done: (() => void) | undefined): void {
    try {
      if (!this.#fdOpen) return;
      const pieces = chunks.length < IOV_MAX ? [header, ...chunks] : [header, Buffer.concat(chunks, dataBytes)];
      writevSync(this.fd, pieces);
    } catch (error) {
      this.#replyFailed(error);
    } finally {
      done?.();
    }
  }

  /** ENOENT: the request was aborted meanwhile. The others come with the end of the connection. */
  #replyFailed(error: unknown): void {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'ENOENT' && code !== 'ENODEV' && code !== 'ECONNABORTED' && code !== 'EPERM') {
      this.#log(withCause('The kernel refused a FUSE reply.', error));
    }
  }

  /** Queues a notification; resolves when the kernel has done what it says, or is gone. Never fails. */
  notify(about: 'pages' | 'attributes' | 'names', message: Buffer): Promise<void> {
    if (this.#end !== undefined || this.#closing) return Promise.resolve();
    return this.#notifications[about].add(message);
  }

  /** Queues the content of a file for the kernel, behind the notifications about pages; true once it has taken it. Never fails. */
  store(header: Buffer, data: readonly Uint8Array[]): Promise<boolean> {
    if (this.#end !== undefined || this.#closing) return Promise.resolve(false);
    return this.#notifications.pages.addContent([header, ...data]);
  }

  #queue(): Notifications {
    return new Notifications((pieces, sent) => this.#sendNotification(pieces, sent));
  }

  #giveUpNotifications(): void {
    for (const queue of Object.values(this.#notifications)) queue.giveUp();
  }

  #sendNotification(pieces: readonly Uint8Array[], sent: (isTaken: boolean) => void): void {
    writev(this.fd, pieces, (error) => {
      // ENOENT: the kernel does not have the inode or name, so there is nothing to drop.
      if (error !== null && error.code !== 'ENOENT' && error.code !== 'ENOTDIR') this.#replyFailed(error);
      if (this.#end !== undefined) this.#giveUpNotifications();
      sent(error === null);
      if (this.#closing) this.close();
    });
  }

  /** Ends the connection from this side: the kernel gives up a connection that nobody serves. What waits in it ends with an error. */
  abort(): void {
    this.#end ??= { reason: 'aborted' };
    this.close();
  }

  /** Closes the descriptor, after a notification that is under way: its number may be somebody else's file a moment later. Idempotent. */
  close(): void {
    this.#closing = true;
    this.#giveUpNotifications();
    if (this.#released || Object.values(this.#notifications).some(({ isSending }) => isSending)) return;
    if (this.#poller !== undefined && this.#releaseFd === undefined) {
      this.#poller.stop();
      return;
    }
    this.#released = true;
    this.#fdOpen = false;
    if (this.#releaseFd === undefined) closeSync(this.fd);
    else this.#releaseFd();
    this.#resolveClosed(this.#end ?? { reason: 'unmounted' });
  }
}

class RequestBuffer implements RequestBytes {
  readonly bytes: Buffer;
  readonly view: DataView;
  length = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

/** ENOENT: the request was interrupted before we got it. The others: try again. */
function isPassing(error: NodeJS.ErrnoException): boolean {
  return error.code === 'ENOENT' || error.code === 'EINTR' || error.code === 'EAGAIN';
}

function deviceError(cause: unknown): Error {
  const code = (cause as NodeJS.ErrnoException).code;
  if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') {
    return new UsageError(`${DEVICE_PATH} does not exist.`, {
      remedy:
        'Load the kernel module with "modprobe fuse"; in a container, start it with "--device /dev/fuse --cap-add SYS_ADMIN".',
      cause,
    });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new UsageError(`${DEVICE_PATH} may not be opened by this user.`, {
      remedy: `Mount as root, or let this user open the device ("chmod 666 ${DEVICE_PATH}") and use the fuse-native binding.`,
      cause,
    });
  }
  return new FsError('EIO', `${DEVICE_PATH} cannot be opened: ${String(cause)}`, { cause });
}
