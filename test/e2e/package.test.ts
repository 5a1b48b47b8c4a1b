/** The package that `npm pack` makes works from another folder: command, library, and all entry points. */
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { isRunning, mountsBelow, must, waitUntil } from './support.ts';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));

/** As a clone after `npm ci`: without anything that was built. */
function freshTree(directory: string): void {
  const left = new Set(['node_modules', 'dist', '.git'].map((name) => join(REPOSITORY, name)));
  cpSync(REPOSITORY, directory, { recursive: true, filter: (path) => !left.has(path) });
  symlinkSync(join(REPOSITORY, 'node_modules'), join(directory, 'node_modules'));
}

it('npm pack gives a package that works elsewhere', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tatami-pack-'));
  try {
    const source = join(directory, 'source');
    freshTree(source);
    await must('npm', ['pack', '--silent', '--pack-destination', directory], { cwd: source });
    const archive = readdirSync(directory).find((name) => name.endsWith('.tgz')) ?? '';
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
    for (const [, path = ''] of readFileSync(join(modules, 'tatamifs', 'README.md'), 'utf8').matchAll(
      /\]\((?!http)([^)#]+)/g,
    )) {
      expect([path, existsSync(join(modules, 'tatamifs', path))]).toEqual([path, true]);
    }
    const program = `
      import { connect } from 'tatamifs';
      import { MemoryStore, PackStore, ReplicatedStore } from 'tatamifs/blocks';
      import { TatamiBlockstore } from 'tatamifs/blockstore';
      import { startCluster } from 'tatamifs/testing';
      const cluster = await startCluster();
      const fs = await cluster.connect();
      await fs.writeFile('/a', 'works');
      console.log(await fs.readFile('/a', 'utf8'), typeof connect, typeof PackStore.open, typeof ReplicatedStore.connect);
      await cluster.close();
      const blockstore = await TatamiBlockstore.open({ store: new MemoryStore() });
      await blockstore.close();`;
    writeFileSync(join(directory, 'program.mjs'), program);
    const said = await must(process.execPath, ['program.mjs'], { cwd: directory });
    expect(said).toBe('works function function function\n');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

it('npm start stops everything when npm is asked to end', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tatami-start-'));
  try {
    freshTree(join(directory, 'source'));
    const [data, mount] = [join(directory, 'data'), join(directory, 'mnt')];
    const args = ['start', '--', '--data', data, '--mount', mount, '--nodes', '1'];
    const npm = spawn('npm', args, { cwd: join(directory, 'source'), stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    npm.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    await waitUntil('it is healthy', () => /healthy: 1 of 1/.test(said), 90_000);
    const { pid } = JSON.parse(readFileSync(join(data, 'run', 'n1.json'), 'utf8')) as { pid: number };
    npm.kill('SIGTERM');
    await waitUntil('the node has ended', () => !isRunning(pid));
    await waitUntil('nothing is mounted', () => mountsBelow(directory).length === 0);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
