import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { init } from './init.ts';

describe('tatami init', () => {
  let scratch: string;
  const begin = (data: string, more: { readonly id?: string } = {}) =>
    init({
      ...{ data: join(scratch, data), keyFile: join(scratch, 'cluster.key'), listen: '192.0.2.7:7400' },
      ...{ rack: 'rack', zone: 'zone', ...more },
    });
  beforeEach(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'tatami-init-'));
    vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await rm(scratch, { recursive: true, force: true });
  });

  it('that fails leaves no key file in the way of the next attempt', async () => {
    await mkdir(join(scratch, 'full'));
    await writeFile(join(scratch, 'full', 'file'), '');
    await expect(begin('full')).rejects.toThrow(/is not empty/);
    expect(await readdir(scratch)).toEqual(['full']);
    await begin('data');
    const key = await readFile(join(scratch, 'cluster.key'), 'utf8');
    await expect(begin('other')).rejects.toThrow(/key file .* exists/);
    expect(await readFile(join(scratch, 'cluster.key'), 'utf8')).toBe(key);
  });

  it('says what names a node can have', async () => {
    const remedy = expect.stringMatching(/1 to 64 of a-z/) as string;
    await expect(begin('data', { id: 'Node 1' })).rejects.toMatchObject({ code: 'ERR_USAGE', remedy });
    expect(await readdir(scratch)).toEqual([]);
  });
});
