/**
 * Notifications for the kernel that wait: it may be long about one (pages that are being read), and there may be one for each
 * write meanwhile. Sent one at a time, the oldest first. Invariant: of those that wait no two say the same with no content between them,
 * since one that was not begun yet does for whoever asks for it now, unless it would come before what it is to undo.
 */
interface Waiting {
  readonly pieces: readonly Uint8Array[];
  /** What it says, if another may say the same. */
  readonly key: string | undefined;
  readonly done: (isTaken: boolean) => void;
  readonly isDone: Promise<boolean>;
}

export class Notifications {
  readonly #send: (pieces: readonly Uint8Array[], sent: (isTaken: boolean) => void) => void;
  /** In the order in which they came. */
  readonly #waiting = new Set<Waiting>();
  /** Of these, what came since the last content. */
  readonly #alike = new Map<string, Waiting>();
  #isSending = false;

  /** `send` calls `sent` once, later, whether it went well or not. */
  constructor(send: (pieces: readonly Uint8Array[], sent: (isTaken: boolean) => void) => void) {
    this.#send = send;
  }

  get isSending(): boolean {
    return this.#isSending;
  }

  /** Resolves when the kernel has done what it says, or they are given up. */
  async add(message: Buffer): Promise<void> {
    const key = message.toString('latin1');
    await (this.#alike.get(key) ?? this.#queue([message], key)).isDone;
  }

  /** A file's content. True when the kernel has taken it; until it is decided the memory is in use. */
  addContent(pieces: readonly Uint8Array[]): Promise<boolean> {
    this.#alike.clear();
    return this.#queue(pieces, undefined).isDone;
  }

  /** Those that were not begun are not sent any more. */
  giveUp(): void {
    for (const { done } of this.#waiting) done(false);
    this.#waiting.clear();
    this.#alike.clear();
  }

  #queue(pieces: readonly Uint8Array[], key: string | undefined): Waiting {
    let done!: (isTaken: boolean) => void;
    const isDone = new Promise<boolean>((resolve) => (done = resolve));
    const waiting = { pieces, key, done, isDone };
    this.#waiting.add(waiting);
    if (key !== undefined) this.#alike.set(key, waiting);
    if (!this.#isSending) this.#next();
    return waiting;
  }

  #next(): void {
    const [next] = this.#waiting;
    if (next === undefined) return;
    this.#waiting.delete(next);
    if (next.key !== undefined && this.#alike.get(next.key) === next) this.#alike.delete(next.key);
    this.#isSending = true;
    this.#send(next.pieces, (isTaken) => {
      this.#isSending = false;
      next.done(isTaken);
      this.#next();
    });
  }
}
