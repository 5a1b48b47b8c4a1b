import { Cancellation, type CancelSignal } from '../cancel.ts';
import type { Ino } from '../ids.ts';
import type { Caller } from '../vfs/ops.ts';
import { getU64 } from './wire.ts';

const ABORTED = AbortSignal.abort();

/** One request: the caller as VfsOps sees it, and what the reply needs to know of the question. */
export class PendingRequest implements Caller {
  readonly opcode: number;
  readonly unique: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly ino: Ino;
  /** Meaning by opcode: bytes asked for (read, readdir, getxattr). */
  size = 0;
  /** For a lock, without a deadline. */
  waitsForOthers = false;
  /** Before what works on it has ended: its caller is about to die. */
  answered = false;
  #controller: Cancellation | undefined;
  #interrupted = false;

  constructor(view: DataView) {
    this.opcode = view.getUint32(4, true);
    this.unique = getU64(view, 8);
    this.ino = getU64(view, 16) as Ino;
    this.uid = view.getUint32(24, true);
    this.gid = view.getUint32(28, true);
    this.pid = view.getUint32(32, true);
  }

  /** Made when first asked for: most operations never look. */
  get signal(): CancelSignal {
    if (this.#controller !== undefined) return this.#controller.signal;
    if (this.#interrupted) return ABORTED;
    this.#controller = new Cancellation();
    return this.#controller.signal;
  }

  get interrupted(): boolean {
    return this.#interrupted;
  }

  interrupt(): void {
    this.#interrupted = true;
    this.#controller?.abort();
  }
}
