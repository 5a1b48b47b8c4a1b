/**
 * Draws text in place, over what it drew before. The text must fit the terminal (fit-screen.ts): then each line is one
 * row, and rows are overwritten where they are, without a flicker and without anything left between them.
 */

export interface Terminal {
  write(text: string): unknown;
}

const HIDE_CURSOR = '\x1b[?25l';
const SHOW_CURSOR = '\x1b[?25h';
const CLEAR_REST_OF_LINE = '\x1b[K';
const CLEAR_REST_OF_SCREEN = '\x1b[J';
const CLEAR_SCREEN = '\x1b[H\x1b[2J';

export class Painter {
  readonly #terminal: Terminal;
  /** What is on the screen above the cursor; undefined before the first drawing. */
  #drawn: string | undefined;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  draw(text: string): void {
    if (text === this.#drawn) return;
    const up = this.#drawn === undefined ? 0 : this.#drawn.split('\n').length;
    const start = `${this.#drawn === undefined ? HIDE_CURSOR : ''}${up > 0 ? `\x1b[${up}A` : ''}`;
    const rows = text.split('\n').map((line) => `\r${line}${CLEAR_REST_OF_LINE}\n`);
    this.#terminal.write(`${start}${rows.join('')}${CLEAR_REST_OF_SCREEN}`);
    this.#drawn = text;
  }

  /** The terminal may have moved and wrapped everything, as when its size changes: begins again at its top. */
  clear(): void {
    if (this.#drawn === undefined) return;
    this.#terminal.write(`${CLEAR_SCREEN}${HIDE_CURSOR}`);
    this.#drawn = undefined;
  }

  /** Leaves the last drawing where it is. */
  end(): void {
    if (this.#drawn !== undefined) this.#terminal.write(SHOW_CURSOR);
    this.#drawn = undefined;
  }
}
