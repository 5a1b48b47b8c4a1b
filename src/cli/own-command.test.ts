import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ownCommand, shellWord } from './own-command.ts';

it('names a command that works from here', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tatami-own-'));
  try {
    const main = join(directory, 'main.js');
    await writeFile(main, '');
    await mkdir(join(directory, 'bin'));
    await mkdir(join(directory, 'other'));
    await symlink(main, join(directory, 'bin', 'tatami'));
    await writeFile(join(directory, 'other', 'tatami'), '');
    expect(ownCommand(main, `/nonexistent:${join(directory, 'bin')}`, '/')).toBe('tatami');
    // Another program of that name comes first.
    expect(ownCommand(main, `${join(directory, 'other')}:${join(directory, 'bin')}`, directory)).toBe('node main.js');
    expect(ownCommand(main, '', join(directory, 'bin'))).toBe('node ../main.js');
    expect(ownCommand(main, '', '/usr/share/doc/some/where/far/away/from/it/all')).toBe(`node ${main}`);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

it('quotes for a shell', () => {
  expect(['/a/b-c_1.js', 'a b', "it's"].map(shellWord)).toEqual(['/a/b-c_1.js', "'a b'", "'it'\\''s'"]);
});
