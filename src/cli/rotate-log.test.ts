import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { rotateLog } from './rotate-log.ts';

it('a large log is set aside, one old one is kept', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tatami-log-'));
  const file = join(directory, 'n1.log');
  try {
    await rotateLog(file, 4);
    for (const text of ['first', 'second', 'abc']) {
      await writeFile(file, text);
      await rotateLog(file, 4);
    }
    expect((await readdir(directory)).sort()).toEqual(['n1.log', 'n1.log.old']);
    expect([await readFile(file, 'utf8'), await readFile(`${file}.old`, 'utf8')]).toEqual(['abc', 'second']);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
