/** How often the line on a terminal is written anew. */
const SHOW_EVERY_MS = 100;

/** One line on a terminal that is written over and over; nothing elsewhere. */
export function liveLine(): { show(text: () => string): void; end(): void } {
  const { stderr } = process;
  let shownMs = -Infinity;
  return {
    show(text) {
      const nowMs = performance.now();
      if (!stderr.isTTY || nowMs - shownMs < SHOW_EVERY_MS) return;
      shownMs = nowMs;
      stderr.write(`\r\x1b[K${text()}`);
    },
    end() {
      if (stderr.isTTY && shownMs > 0) stderr.write('\r\x1b[K');
      shownMs = -Infinity;
    },
  };
}
