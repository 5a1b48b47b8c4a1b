/**
 * Turns of the real event loop: after one, all that was ready has run (microtasks, what they made ready, and so on),
 * without virtual time passing.
 */

/** Turns that are asked for together at most. */
const TOGETHER = 64;

/** One turn. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/**
 * Calls `step` until it returns false, each time in a turn of its own. Turns asked for together follow each other without
 * the round of the event loop (a look at all sockets) that each of them would cost otherwise; Node empties its queue of
 * microtasks between them all the same.
 */
export function inTurns(step: () => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    let isOver = false;
    let together = 1;
    const work = (): void => {
      if (isOver) return;
      try {
        if (step()) return;
        isOver = true;
        resolve();
      } catch (error) {
        isOver = true;
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    };
    const ask = (): void => {
      if (isOver) return;
      for (let count = 0; count < together; count++) setImmediate(work);
      together = Math.min(2 * together, TOGETHER);
      setImmediate(ask);
    };
    ask();
  });
}
