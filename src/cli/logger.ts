/** The log of nodes and mounts: one JSON line a report on standard error, as pino writes it. */
import pino from 'pino';
import type { Logger } from '../log.ts';
import { PRIORITIES_VARIABLE } from './spawn.ts';

export function processLogger(name: string): Logger {
  const level = process.env['TATAMI_LOG'] ?? 'info';
  const options = { name, level, timestamp: pino.stdTimeFunctions.isoTime, base: { pid: process.pid } };
  const destination = pino.destination(2);
  if (process.env[PRIORITIES_VARIABLE] === undefined) return pino(options, destination);
  const prefixed = {
    // By this pino knows that it is to tell the level.
    [Symbol.for('pino.metadata')]: true,
    lastLevel: 30,
    write(line: string): void {
      destination.write(`<${syslogPriority(this.lastLevel)}>${line}`);
    },
  };
  return pino(options, prefixed);
}

/** RFC 5424, 6.2.1, from pino's levels (10 trace, 20 debug, 30 info, 40 warn, 50 error, 60 fatal). */
export function syslogPriority(level: number): number {
  if (level >= 60) return 2;
  if (level >= 50) return 3;
  if (level >= 40) return 4;
  return level >= 30 ? 6 : 7;
}
