import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  allSystems,
  compare,
  costTable,
  ensurePackages,
  notesOf,
  plot,
  ratioTable,
  report,
  summarize,
} from '../../../bench/peers/index.ts';
import type { About, PeerKind } from '../../../bench/peers/index.ts';
import { UsageError } from '../../errors.ts';
import { GiB, MiB } from '../../limits.ts';
import { listenForInterruption } from '../interruption.ts';
import { note, print, printJson, table } from '../output.ts';
import { ROOT } from '../places.ts';

export interface PeersOptions {
  readonly sizeBytes: number;
  readonly rounds: number;
  readonly smallFileCount: number;
  readonly install: boolean;
  readonly json: boolean;
  /** Names, with commas between; all where there are none. */
  readonly systems: string | undefined;
  /** Where the report and the plot go. */
  readonly resultsDirectory: string;
}

/** Compares with other filesystems on this machine; they and everything of ours are started and taken away by it. */
export async function benchPeers(options: PeersOptions): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new UsageError('comparing with other filesystems needs namespaces and mounts', { remedy: 'Run it as root.' });
  }
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  const all = chosen(allSystems(version), options.systems);
  const interruption = listenForInterruption({ insistent: false });
  const workDirectory = mkdtempSync(resolve('tatami-peers-'));
  try {
    ensurePackages(all, options.install, note);
    const about: About = {
      date: new Date().toISOString().slice(0, 10),
      machine: machine(),
      commit: commit(),
      rounds: options.rounds,
      sizeMib: options.sizeBytes / MiB,
      smallFileCount: options.smallFileCount,
      versions: all.map((kind) => kind.version()),
    };
    note(`${about.machine}; in ${workDirectory}: ${about.versions.join('; ')}`);
    const rounds = await compare(all, { ...options, workDirectory, signal: interruption.signal, note });
    const summary = summarize(all, rounds, options.sizeBytes);
    if (options.json) {
      printJson({ ...about, ...summary });
    } else {
      const figures = ratioTable(summary.lines);
      const costs = costTable(summary.lines);
      print(`\n${about.machine}; ${about.rounds} rounds, medians, large file ${about.sizeMib} MiB\n`);
      print(table(figures.head, figures.rows));
      print(`\n${notesOf(summary).join('\n')}\n\nProcessor time:\n`);
      print(table(costs.head, costs.rows));
    }
    const base = join(options.resultsDirectory, `${about.date}-peers`);
    const title = `${all.map(({ name }) => name).join(', ')}, ${about.date}`;
    const subtitle = `${about.machine}; commit ${about.commit}; ${about.rounds} rounds; two copies, three servers, one machine`;
    writeFileSync(`${base}.svg`, plot(summary.lines, title, subtitle));
    writeFileSync(`${base}.md`, report(all, summary, about, `${about.date}-peers.svg`));
    note(`written: ${base}.md and .svg`);
  } catch (error) {
    // Programs that it runs are interrupted with it, and their errors come before our own signal.
    await sleep(20);
    throw interruption.signal.aborted ? interruption.signal.reason : error;
  } finally {
    rmSync(workDirectory, { recursive: true, force: true });
    interruption.end();
  }
}

function chosen(all: readonly PeerKind[], names: string | undefined): readonly PeerKind[] {
  if (names === undefined) return all;
  return names.split(',').map((name) => {
    const found = all.find((kind) => kind.name.toLowerCase() === name.trim().toLowerCase());
    if (found !== undefined) return found;
    throw new UsageError(`there is no system ${name}`, {
      remedy: `Choose from: ${all.map((kind) => kind.name).join(', ')}.`,
    });
  });
}

function machine(): string {
  const [cpu] = cpus();
  const load = loadavg()[0]?.toFixed(1) ?? '?';
  return (
    `${cpus().length} x ${cpu?.model.trim() ?? 'CPU'}, ${(totalmem() / GiB).toFixed(0)} GiB, ` +
    `Linux ${release().split('-')[0]}, Node ${process.versions.node}, load ${load} before`
  );
}

/** Of the checkout that this was built from. */
function commit(): string {
  const git = (...args: string[]): string => {
    return execFileSync('git', ['-C', ROOT, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  };
  try {
    const changed = git('status', '--porcelain', '--untracked-files=no', '--', 'src', 'bench/*.ts') !== '';
    return `${git('rev-parse', '--short', 'HEAD')}${changed ? ' with changes' : ''}`;
  } catch {
    return 'unknown';
  }
}
