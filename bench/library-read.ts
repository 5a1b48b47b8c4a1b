/**
 * The library's parallel read without a kernel: clusters of 1, 2 and 3 nodes on this machine, one copy of each block,
 * a file read by a client process of its own, cold.
 */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { dropPageCache, median, megabytesPerSecond, readFileTimed, writeFileTimed } from './measure.ts';
import { pairRow } from './sequential.ts';
import { tatami } from './tatami.ts';
import type { Benchmark, Row } from './types.ts';

const CLIENT = fileURLToPath(new URL('./library-client.js', import.meta.url));

function client(mode: 'write' | 'read', data: string, sizeBytes: number): number {
  const args = [CLIENT, mode, data, String(sizeBytes)];
  return Number(execFileSync(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' }));
}

export const libraryRead: Benchmark = {
  name: 'library',
  about: "the library's cold parallel read of one file from 1, 2, 3 nodes",
  async run(context) {
    const rows: Row[] = [];
    const rawFile = join(context.workDirectory, 'library-raw');
    writeFileTimed(rawFile, context.sizeBytes);
    for (const nodeCount of [1, 2, 3]) {
      const data = join(context.workDirectory, `library-${nodeCount}`);
      const up = ['up', '--data', data, '--no-mount', '--detach'];
      const speeds: number[] = [];
      const raw: number[] = [];
      tatami(...up, '--nodes', String(nodeCount), '--copies', '1');
      try {
        client('write', data, context.sizeBytes);
        for (let round = 0; round < context.rounds; round++) {
          tatami('down', '--data', data);
          dropPageCache();
          raw.push(megabytesPerSecond(context.sizeBytes, readFileTimed(rawFile)));
          dropPageCache();
          tatami(...up);
          speeds.push(megabytesPerSecond(context.sizeBytes, client('read', data, context.sizeBytes)));
        }
      } finally {
        tatami('down', '--data', data);
        rmSync(data, { recursive: true, force: true });
      }
      await context.note(`library read from ${nodeCount} node(s): ${median(speeds).toFixed(0)} MB/s`);
      rows.push(pairRow(`library read, ${nodeCount} node${nodeCount === 1 ? '' : 's'}`, speeds, 'raw disk', raw));
    }
    rmSync(rawFile);
    return rows;
  },
};
