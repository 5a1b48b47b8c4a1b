import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeDirectory } from '../env-node/make-directory.ts';
import { newDirectory } from './new-directory.ts';

describe('making directories', () => {
  let scratch: string;
  beforeEach(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'tatami-mkdir-'));
  });
  afterEach(() => rm(scratch, { recursive: true, force: true }));

  it('makes what is missing, and tells the uppermost', async () => {
    expect(await makeDirectory(join(scratch, 'a/b/c'))).toBe(join(scratch, 'a'));
    expect((await stat(join(scratch, 'a/b/c'))).isDirectory()).toBe(true);
    expect(await makeDirectory(join(scratch, 'a/b/c'))).toBeUndefined();
    await Promise.all([makeDirectory(join(scratch, 'd/e/f')), makeDirectory(join(scratch, 'd/e/g'))]);
  });

  it('ends where no directory can be, with what to do', async () => {
    await writeFile(join(scratch, 'file'), '');
    for (const [path, code] of [
      ['/proc/tatami/x', 'ENOENT'],
      [join(scratch, 'file'), 'EEXIST'],
      [join(scratch, 'file/below'), 'ENOTDIR'],
    ] as const) {
      await expect(makeDirectory(path)).rejects.toMatchObject({ code });
      const remedy = expect.stringMatching(/Choose a directory/) as string;
      await expect(newDirectory(path)).rejects.toMatchObject({ code: 'ERR_USAGE', remedy });
    }
  });
});
