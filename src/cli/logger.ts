/** The log of nodes and mounts: one JSON line a report on standard error, as pino writes it. */
import pino from 'pino';
import type { Logger } from '../log.ts';

export function processLogger(name: string): Logger {
  const level = process.env['TATAMI_LOG'] ?? 'info';
  return pino(
    { name, level, timestamp: pino.stdTimeFunctions.isoTime, base: { pid: process.pid } },
    pino.destination(2),
  );
}
