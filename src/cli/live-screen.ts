/** The screen of `tatami up`: nodes, health, space, throughput, and three things to try. */
import { setTimeout as sleep } from 'node:timers/promises';
import logUpdate from 'log-update';
import pc from 'picocolors';
import type { ClusterStatus } from '../upkeep/status.ts';
import { bytes, print, rate } from './output.ts';
import { renderStatus } from './render-status.ts';

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
  const live = process.stdout.isTTY;
  let previous: { at: number; status: ClusterStatus } | undefined;
  let lastLine = '';
  if (!live) for (const line of thingsToTry(options)) print(line);
  while (!options.signal.aborted) {
    const at = performance.now();
    const status = await options.read();
    if (live) logUpdate(drawScreen(options, status, previous, at));
    const line = plainLine(status);
    if (!live && line !== lastLine) print(line);
    lastLine = line;
    previous = { at, status };
    await sleep(REFRESH_MS, undefined, { signal: options.signal }).catch(() => undefined);
  }
  if (live) logUpdate.done();
}

function plainLine(status: ClusterStatus): string {
  const up = status.nodes.filter((node) => node.state === 'up').length;
  const worst = status.findings[0];
  return `${status.health}: ${up} of ${status.nodes.length} nodes up${worst === undefined ? '' : `; ${worst.text}`}`;
}

function drawScreen(
  options: ScreenOptions,
  status: ClusterStatus,
  previous: { at: number; status: ClusterStatus } | undefined,
  at: number,
): string {
  const elapsedMs = previous === undefined ? 0 : at - previous.at;
  const sum = (of: ClusterStatus, pick: 'readBytes' | 'writtenBytes') =>
    of.nodes.reduce((total, node) => total + (node.report?.[pick] ?? 0), 0);
  const delta = (pick: 'readBytes' | 'writtenBytes') =>
    previous === undefined ? 0 : Math.max(0, sum(status, pick) - sum(previous.status, pick));
  return [
    `${pc.bold('tatamifs')}  ${options.mountPoint ?? '(not mounted)'}`,
    '',
    renderStatus(status),
    '',
    `blocks read ${rate(delta('readBytes'), elapsedMs)}, written ${rate(delta('writtenBytes'), elapsedMs)} (all copies); ` +
      `${bytes(status.usedBytes)} of ${bytes(status.capacityBytes)} used`,
    '',
    ...thingsToTry(options),
    '',
    pc.dim('Ctrl-C unmounts and stops everything; the files stay.'),
  ].join('\n');
}

function thingsToTry(options: ScreenOptions): string[] {
  const data = options.dataPath;
  const files =
    options.mountPoint === undefined
      ? [`  npx tatami put FILE /name --data ${data}`, `  npx tatami ls -l / --data ${data}`]
      : [
          `  cp -r SOME_FOLDER ${options.mountPoint}/`,
          `  npx tatami stat /FILE --data ${data}      which node holds which block`,
        ];
  return [pc.bold('Try, in another terminal:'), ...files, `  npx tatami status --data ${data}`];
}
