/**
 * `tatami events --exec`: a program that is run for each event, one at a time and in order, as keepalived does it with its
 * notify scripts. The event is in its environment and, as JSON, on its standard input.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import type { ClusterEvent } from '../cluster-events.ts';

export interface EventCommandOptions {
  /** For `/bin/sh -c`. */
  readonly command: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** A program that was asked to end and does not is ended for it. */
const KILL_AFTER_MS = 2_000;

/** Resolves when it has ended: with what went wrong, in words, or undefined. Never rejects. */
export function runEventCommand(event: ClusterEvent, options: EventCommandOptions): Promise<string | undefined> {
  const { command, timeoutMs, signal } = options;
  return new Promise((resolve) => {
    if (signal.aborted) return resolve(undefined);
    // A process group of its own, so that what it started ends with it.
    const child = spawn('/bin/sh', ['-c', command], {
      detached: true,
      env: { ...process.env, ...environmentOf(event) },
      stdio: ['pipe', 'inherit', 'inherit'],
    });
    let why: string | undefined;
    let killer: NodeJS.Timeout | undefined;
    const end = (reason: string | undefined): void => {
      if (killer !== undefined) return;
      why = reason;
      killGroup(child, 'SIGTERM');
      killer = setTimeout(() => killGroup(child, 'SIGKILL'), KILL_AFTER_MS);
    };
    const timer = setTimeout(() => end(`it was ended after ${timeoutMs / 1000} s`), timeoutMs);
    const onAbort = (): void => end(undefined);
    signal.addEventListener('abort', onAbort, { once: true });
    const finish = (outcome: string | undefined): void => {
      clearTimeout(timer);
      clearTimeout(killer);
      signal.removeEventListener('abort', onAbort);
      // Asked to end by us: what it left running has been told the same.
      if (killer !== undefined) killGroup(child, 'SIGKILL');
      resolve(outcome);
    };
    child.on('error', (error) => finish(error.message));
    child.on('exit', (code, name) => {
      if (killer !== undefined) finish(why);
      else finish(code === 0 ? undefined : `it ended with ${name ?? `exit code ${code}`}`);
    });
    // One that does not read its input is no error.
    child.stdin.on('error', () => undefined);
    child.stdin.end(`${JSON.stringify(event)}\n`);
  });
}

/** `TATAMI_EVENT` is the kind; `TATAMI_EVENT_NODE` and so on the rest, lists separated by spaces. */
export function environmentOf(event: ClusterEvent): Record<string, string> {
  const { kind, details, ...fields } = event;
  const named = Object.entries({ ...details, ...fields }).map(([name, value]): [string, string] => [
    `TATAMI_EVENT_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`,
    value instanceof Date ? value.toISOString() : Array.isArray(value) ? value.join(' ') : String(value),
  ]);
  // A name or value that an environment cannot have was not made by us.
  const usable = named.filter(([name, value]) => /^[A-Z0-9_]+$/.test(name) && !value.includes('\0'));
  return { TATAMI_EVENT: kind, ...Object.fromEntries(usable) };
}

function killGroup(child: ChildProcess, name: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, name);
  } catch {
    // All of it has ended.
  }
}
