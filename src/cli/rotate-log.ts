/** Keeps the logs of background processes bounded. */
import { rename, rm, stat } from 'node:fs/promises';
import { MiB } from '../limits.ts';

/** A start that finds more than this sets the log aside: weeks of a healthy node. */
export const LOG_KEEP_BYTES = 8 * MiB;

/** Moves a log that has grown large to `FILE.old`, over the one that was there. */
export async function rotateLog(file: string, keepBytes = LOG_KEEP_BYTES): Promise<void> {
  const size = await stat(file).then(
    (stats) => stats.size,
    () => 0,
  );
  if (size > keepBytes) await rename(file, `${file}.old`);
}

/** A log that nobody will look for any more, and the one that was set aside before it. */
export async function removeLogs(file: string): Promise<void> {
  await Promise.all([rm(file, { force: true }), rm(`${file}.old`, { force: true })]);
}
