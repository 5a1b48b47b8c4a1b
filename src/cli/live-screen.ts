/** The screen of `tatami up`: nodes, health, space, throughput, and three things to try. */
import { setTimeout as sleep } from 'node:timers/promises';
import pc from 'picocolors';
import type { ClusterStatus } from '../upkeep/status.ts';
import { fitScreen } from './fit-screen.ts';
import type { Section } from './fit-screen.ts';
import { bytes, print, rate } from './output.ts';
import { Painter } from './painter.ts';
import { ownCommand, shellWord } from './own-command.ts';
import { statusParts } from './render-status.ts';

export interface ScreenOptions {
  readonly read: () => Promise<ClusterStatus>;
  readonly mountPoint: string | undefined;
  readonly dataPath: string;
  /** Ends the screen. */
  readonly signal: AbortSignal;
}

const REFRESH_MS = 1_000;

/** Redraws on a terminal; elsewhere prints a line when the health changes. Returns when the signal fires. */
export async function runScreen(options: ScreenOptions): Promise<void> {
  if (process.stdout.isTTY) return watchStatus(options, (now, before) => screenSections(options, now, before));
  for (const line of thingsToTry(options)) print(line);
  let lastLine = '';
  while (!options.signal.aborted) {
    const line = plainLine(await options.read());
    if (options.signal.aborted) return;
    if (line !== lastLine) print(line);
    lastLine = line;
    await sleep(REFRESH_MS, undefined, { signal: options.signal }).catch(() => undefined);
  }
}

/** A status, and when it was asked for. */
export interface Moment {
  readonly atMs: number;
  readonly status: ClusterStatus;
}

/** Draws in place, fitted to the terminal and again when its size changes. Returns when the signal fires. */
export async function watchStatus(
  options: Pick<ScreenOptions, 'read' | 'signal'>,
  sectionsOf: (now: Moment, before: Moment | undefined) => readonly Section[],
): Promise<void> {
  const { stdout } = process;
  let sections: readonly Section[] = [];
  // The last row stays free: a line end there would scroll.
  const painter = new Painter(stdout);
  const draw = () => painter.draw(fitScreen(sections, stdout.columns, stdout.rows - 1));
  const onResize = () => {
    painter.clear();
    draw();
  };
  stdout.on('resize', onResize);
  try {
    for (let before: Moment | undefined; !options.signal.aborted;) {
      const now = { atMs: performance.now(), status: await options.read() };
      if (options.signal.aborted) return;
      sections = sectionsOf(now, before);
      draw();
      before = now;
      await sleep(REFRESH_MS, undefined, { signal: options.signal }).catch(() => undefined);
    }
  } finally {
    stdout.off('resize', onResize);
    painter.end();
  }
}

function plainLine(status: ClusterStatus): string {
  const up = status.nodes.filter((node) => node.state === 'up').length;
  const worst = status.findings[0];
  return `${status.health}: ${up} of ${status.nodes.length} nodes up${worst === undefined ? '' : `; ${worst.text}`}`;
}

/** Health and nodes come first: they stay on the smallest terminal. */
export function statusSections(status: ClusterStatus): Section[] {
  const parts = statusParts(status);
  return [
    { rank: 0, lines: [parts.health] },
    { rank: 0, lines: linesOf(parts.nodes) },
    { rank: 1, lines: linesOf(parts.findings), wrap: true },
    { rank: 1, lines: linesOf(parts.repair), wrap: true },
    { rank: 3, lines: linesOf(parts.outlook), wrap: true },
    { rank: 4, lines: linesOf(parts.groups) },
    { rank: 5, lines: linesOf(parts.pools) },
    { rank: 6, lines: linesOf(parts.clients) },
  ];
}

function linesOf(text: string): string[] {
  return text === '' ? [] : text.split('\n');
}

function screenSections(options: ScreenOptions, now: Moment, before: Moment | undefined): Section[] {
  const { status } = now;
  const elapsedMs = before === undefined ? 0 : now.atMs - before.atMs;
  const sum = (of: ClusterStatus, pick: 'readBytes' | 'writtenBytes') =>
    of.nodes.reduce((total, node) => total + (node.report?.[pick] ?? 0), 0);
  const speed = (pick: 'readBytes' | 'writtenBytes') =>
    rate(before === undefined ? 0 : Math.max(0, sum(status, pick) - sum(before.status, pick)), elapsedMs);
  const space = `${bytes(status.usedBytes)} of ${bytes(status.capacityBytes)} used`;
  return [
    { rank: 0, lines: [`${pc.bold('tatamifs')}  ${options.mountPoint ?? '(not mounted)'}`] },
    ...statusSections(status),
    { rank: 2, lines: [`read ${speed('readBytes')}, written ${speed('writtenBytes')} (all copies); ${space}`] },
    { rank: 3, lines: thingsToTry(options) },
    { rank: 0, lines: [pc.dim('Ctrl-C unmounts and stops everything; the files stay.')] },
  ];
}

function thingsToTry(options: ScreenOptions): string[] {
  const data = shellWord(options.dataPath);
  const tatami = ownCommand();
  const files =
    options.mountPoint === undefined
      ? [`  ${tatami} put FILE /name --data ${data}`, `  ${tatami} ls -l / --data ${data}`]
      : [
          `  cp -r SOME_FOLDER ${shellWord(options.mountPoint)}/`,
          `  ${tatami} stat /FILE --data ${data}      which node holds which block`,
        ];
  return [pc.bold('Try, in another terminal:'), ...files, `  ${tatami} status --data ${data}`];
}
