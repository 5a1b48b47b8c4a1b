/**
 * The yardstick of everything that goes through the kernel: an in-memory filesystem on the same binding, served by a
 * process of its own for the length of one measurement. It has a file `zeros` of the size under test.
 */
import { mkdtempSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fork } from 'node:child_process';
import type { BenchContext } from './types.ts';

const SERVER = fileURLToPath(new URL('./empty-mount-server.js', import.meta.url));
const READY_TIMEOUT_MS = 15_000;

export async function withEmptyMount<T>(
  context: Pick<BenchContext, 'workDirectory' | 'sizeBytes'>,
  work: (directory: string) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(context.workDirectory, 'empty-'));
  const server = fork(SERVER, [directory, String(context.sizeBytes)], {
    env: { ...process.env, UV_THREADPOOL_SIZE: '12' },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const gone = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the empty mount was not ready in time')), READY_TIMEOUT_MS);
      server.once('message', () => {
        clearTimeout(timer);
        resolve();
      });
      server.once('exit', (code) => {
        clearTimeout(timer);
        reject(new Error(`the empty mount ended with code ${code}`));
      });
    });
    return await work(directory);
  } finally {
    server.kill('SIGTERM');
    await gone;
    rmdirSync(directory);
  }
}
