/** What the commands print: progress on a terminal, plain lines elsewhere, errors that say what to do next. */
import cliProgress from 'cli-progress';
import CliTable from 'cli-table3';
import pc from 'picocolors';
import prettyBytes from 'pretty-bytes';
import { TatamiError } from '../errors.ts';

export function print(line = ''): void {
  process.stdout.write(`${line}\n`);
}

/** For people, on standard error, so that standard output stays what a script asked for. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, (_, part: unknown) => jsonable(part), 2)}\n`);
}

/** JSON on one line, by the same rules. */
export function printed(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => jsonable(part));
}

function jsonable(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('utf8');
  return value;
}

export function bytes(count: number): string {
  return prettyBytes(count, { binary: true });
}

export function rate(byteCount: number, ms: number): string {
  return `${bytes(ms > 0 ? (byteCount * 1000) / ms : 0)}/s`;
}

/** `2026-11-25 02:14:05`, by this machine's zone. */
export function localTime(at: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** `error: …` and, below it, what to do. */
export function printError(error: unknown, verbose = process.env['TATAMI_DEBUG'] !== undefined): void {
  const text = error instanceof Error ? error.message : String(error);
  note(`${pc.red('error:')} ${text}`);
  if (error instanceof TatamiError) {
    if (error.remedy !== undefined) note(`  ${error.remedy}`);
    note(pc.dim(`  (${error.code})`));
  }
  if (verbose && error instanceof Error) {
    note(error.stack ?? '');
    if (error.cause instanceof Error) note(`caused by: ${error.cause.stack ?? error.cause.message}`);
  }
}

/** A table without drawing characters, as `ls` and `df` print theirs. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const made = new CliTable({
    head: head.map((cell) => pc.bold(cell)),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
    chars: BLANK_BORDERS,
  });
  for (const row of rows) made.push(row.map(String));
  return made
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

const BLANK_BORDERS = Object.fromEntries(
  [
    ...['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'],
    ...['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'],
  ].map((name) => [name, '']),
);

export interface Progress {
  /** Absolute position. */
  readonly update: (done: number) => void;
  /** Ends the line or bar. Idempotent. */
  readonly end: () => void;
}

/** A bar on a terminal, from the first update on; elsewhere a line each tenth of the way. `unit` formats positions. */
export function progress(label: string, total: number, unit: (count: number) => string = String): Progress {
  if (process.stderr.isTTY) return progressBar(label, total, unit);
  let nextTenth = 1;
  return {
    update(done) {
      if (total <= 0 || nextTenth > 10 || done < (total * nextTenth) / 10) return;
      nextTenth = Math.floor((done * 10) / total) + 1;
      note(`${label}: ${Math.min(100, Math.floor((done * 100) / total))}% (${unit(done)} of ${unit(total)})`);
    },
    end: () => undefined,
  };
}

function progressBar(label: string, total: number, unit: (count: number) => string): Progress {
  let bar: cliProgress.SingleBar | undefined;
  const begin = (): cliProgress.SingleBar => {
    const begun = new cliProgress.SingleBar({
      format(options, { progress: part, eta }, { done, all }: { done: string; all: string }) {
        const left = Number.isFinite(eta) && eta > 0 ? `, ${Math.ceil(eta)} s left` : '';
        const drawn = cliProgress.Format.BarFormat(part, options);
        return `${label} ${drawn} ${Math.floor(part * 100)}% ${done} of ${all}${left}`;
      },
      barsize: 30,
      hideCursor: true,
      clearOnComplete: true,
      stream: process.stderr,
    });
    begun.start(Math.max(total, 1), 0, { done: unit(0), all: unit(total) });
    return begun;
  };
  return {
    update(done) {
      bar ??= begin();
      // Totals that were estimated can be too small.
      if (done > bar.getTotal()) bar.setTotal(done);
      bar.update(done, { done: unit(done), all: unit(Math.max(total, done)) });
    },
    end() {
      bar?.stop();
      bar = undefined;
    },
  };
}
