/** The package that `npm pack` makes works from another folder: command, library, and all three entry points. */
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { must } from './support.ts';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));

it('npm pack gives a package that works elsewhere', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tatami-pack-'));
  try {
    await must('npm', ['pack', '--silent', '--pack-destination', directory], { cwd: REPOSITORY });
    const [archive = ''] = readdirSync(directory);
    const modules = join(directory, 'node_modules');
    mkdirSync(join(modules, 'tatamifs'), { recursive: true });
    await must('tar', ['-xzf', join(directory, archive), '--strip-components=1', '-C', join(modules, 'tatamifs')]);
    // As an installation would, without asking the registry again.
    for (const name of readdirSync(join(REPOSITORY, 'node_modules'))) {
      if (name !== '.bin') symlinkSync(join(REPOSITORY, 'node_modules', name), join(modules, name));
    }
    const bin = join(modules, 'tatamifs', 'dist', 'src', 'cli', 'main.js');
    expect(await must(bin, ['--version'], { cwd: directory })).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(await must(bin, ['--help'], { cwd: directory })).toMatch(/Exit codes/);
    const program = `
      import { connect } from 'tatamifs';
      import { MemoryStore, PackStore, ReplicatedStore } from 'tatamifs/blocks';
      import { startCluster } from 'tatamifs/testing';
      const cluster = await startCluster();
      const fs = await cluster.connect();
      await fs.writeFile('/a', 'works');
      console.log(await fs.readFile('/a', 'utf8'), typeof connect, typeof PackStore.open, typeof ReplicatedStore.connect);
      await cluster.close();
      await new MemoryStore().close();`;
    writeFileSync(join(directory, 'program.mjs'), program);
    const said = await must(process.execPath, ['program.mjs'], { cwd: directory });
    expect(said).toBe('works function function function\n');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
