import { expect, it } from 'vitest';
import { Painter } from './painter.ts';

/** As much of a terminal as the painter uses. */
class FakeTerminal {
  readonly rows: string[] = [];
  cursorShown = true;
  #row = 0;

  write(text: string): void {
    for (const [part] of text
      .replaceAll('\x1b', 'ESC')
      .matchAll(/ESC\[\??[0-9]*[A-Za-z]|[\r\n]|(?:(?!ESC)[^\r\n])+/g)) {
      if (part === '\n') this.#row++;
      else if (part === 'ESC[?25l') this.cursorShown = false;
      else if (part === 'ESC[?25h') this.cursorShown = true;
      else if (part === 'ESC[J') this.rows.length = this.#row;
      else if (part === 'ESC[2J') this.rows.length = 0;
      else if (part === 'ESC[H') this.#row = 0;
      else if (part === 'ESC[K') this.rows[this.#row] ??= '';
      else if (part.endsWith('A')) this.#row -= Number(part.slice(4, -1));
      else if (part === '\r') this.rows[this.#row] = '';
      else this.rows[this.#row] = part;
    }
  }
}

it('each drawing takes the place of the one before, empty lines too', () => {
  const terminal = new FakeTerminal();
  terminal.write('before\n');
  const painter = new Painter(terminal);
  for (const text of ['one\n\ntwo', 'one\n\n\nthree\nfour', 'x', 'x\n\ny']) {
    painter.draw(text);
    expect(terminal.rows).toEqual(['before', ...text.split('\n')]);
    expect(terminal.cursorShown).toBe(false);
  }
  painter.clear();
  painter.draw('after\nresizing');
  expect(terminal.rows).toEqual(['after', 'resizing']);
  painter.end();
  expect(terminal.cursorShown).toBe(true);
});
