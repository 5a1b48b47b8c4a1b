/**
 * Notifications for the kernel that wait: it may be long about one (pages that are being read), and there may be one for each
 * write meanwhile. Sent one at a time, the oldest first. Invariant: of those that wait no two say the same, since one that was not
 * begun yet does for whoever asks for it now.
 */
interface Waiting {
  readonly message: Buffer;
  readonly done: () => void;
  readonly isDone: Promise<void>;
}

export class Notifications {
  readonly #send: (message: Buffer, sent: () => void) => void;
  /** By what they say. */
  readonly #waiting = new Map<string, Waiting>();
  #isSending = false;

  /** `send` calls `sent` once, later, whether it went well or not. */
  constructor(send: (message: Buffer, sent: () => void) => void) {
    this.#send = send;
  }

  get isSending(): boolean {
    return this.#isSending;
  }

  /** Resolves when the kernel has done what it says, or they are given up. */
  add(message: Buffer): Promise<void> {
    const key = message.toString('latin1');
    const waiting = this.#waiting.get(key);
    if (waiting !== undefined) return waiting.isDone;
    let done!: () => void;
    const isDone = new Promise<void>((resolve) => (done = resolve));
    this.#waiting.set(key, { message, done, isDone });
    if (!this.#isSending) this.#next();
    return isDone;
  }

  /** Those that were not begun are not sent any more. */
  giveUp(): void {
    for (const { done } of this.#waiting.values()) done();
    this.#waiting.clear();
  }

  #next(): void {
    const [next] = this.#waiting;
    if (next === undefined) return;
    const [key, { message, done }] = next;
    this.#waiting.delete(key);
    this.#isSending = true;
    this.#send(message, () => {
      this.#isSending = false;
      done();
      this.#next();
    });
  }
}
