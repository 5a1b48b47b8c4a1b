/** The voters on the catalog, in real processes: the first node is lost, a witness helps two nodes. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TATAMI, mustTatami, run, tatami, waitUntil } from './support.ts';
import type { StatusJson } from './support.ts';

describe('voters', () => {
  let directory: string;
  let key: string;
  const running = new Map<string, ChildProcess>();
  const address = (index: number) => `127.0.2.${index}:17400`;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tatami-voters-'));
    key = join(directory, 'cluster.key');
  });
  afterEach(async () => {
    for (const child of running.values()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    running.clear();
    await rm(directory, { recursive: true, force: true });
  });

  async function start(command: 'node' | 'witness', index: number, through?: number): Promise<void> {
    const id = `n${index}`;
    const joining =
      through === undefined ? [] : ['--listen', address(index), '--join', address(through), '--id', id, '--host', id];
    const args = [TATAMI, command, '--data', join(directory, id), '--key-file', key, ...joining];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    running.set(id, child);
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    await waitUntil(`${command} ${id}`, () => {
      if (child.exitCode !== null) throw new Error(`${command} ${id} ended with ${child.exitCode}\n${said}`);
      return said.includes('serves at');
    });
  }

  async function kill(index: number): Promise<void> {
    const child = running.get(`n${index}`)!;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  const at = (index: number) => ['--connect', address(index), '--key-file', key];
  const status = async (through: number): Promise<StatusJson> => {
    const ran = await run(process.execPath, [TATAMI, 'status', '--json', ...at(through)]);
    if (ran.stdout === '') throw new Error(`tatami status ended with ${ran.code}\n${ran.stderr}`);
    return JSON.parse(ran.stdout) as StatusJson;
  };
  const voters = async (through: number) =>
    (await status(through)).voters.map(({ id, state }) => `${id} ${state}`).join(', ');
  const findings = async (through: number) => (await status(through)).findings.map(({ text }) => text).join('\n');

  async function begin(): Promise<void> {
    const first = ['--data', join(directory, 'n1'), '--listen', address(1), '--key-file', key, '--id', 'n1'];
    await mustTatami(['init', ...first, '--host', 'n1']);
    await start('node', 1);
    await start('node', 2, 1);
  }

  it('of three nodes the first is killed: a fourth joins through another, and the status tells the truth', async () => {
    await begin();
    expect(await voters(2)).toBe('n1 up');
    expect(await findings(2)).toMatch(/Node n1 alone votes on the catalog/);
    await start('node', 3, 2);
    await waitUntil('three voters', async () => (await voters(3)) === 'n1 up, n2 up, n3 up');
    await kill(1);
    await start('node', 4, 3);
    await waitUntil('the status sees it', async () => (await voters(4)) === 'n1 down, n2 up, n3 up');
    const now = await status(4);
    expect(now.nodes.map(({ id, state }) => `${id} ${state}`)).toEqual(['n1 down', 'n2 up', 'n3 up', 'n4 up']);
    expect(await findings(4)).toMatch(/Without voter n1, the loss of one more voter would stop all changes/);
    const text = (await tatami(['status', ...at(4)])).stdout;
    expect(text).toMatch(/voters n1 \(down\) n2 n3: none of those that are up may fail/);
    await kill(2);
    await waitUntil('the status sees that too', async () => (await voters(4)) === 'n1 down, n2 down, n3 up');
    expect(await findings(4)).toMatch(/The catalog cannot change without voters n1, n2/);
    // Joining now ends with an error that says why; it does not hang.
    const joining = ['--listen', address(5), '--join', address(4), '--id', 'n5'];
    const refused = await tatami(['node', '--data', join(directory, 'n5'), '--key-file', key, ...joining]);
    expect([refused.code, refused.stderr]).toEqual([3, expect.stringMatching(/n1, n2/)]);
    // The killed ones come back: all is well again, and the files' metadata serves.
    await start('node', 1);
    await start('node', 2);
    await waitUntil('all voters are up', async () => (await voters(4)) === 'n1 up, n2 up, n3 up');
    await waitUntil('the group serves', async () => (await status(4)).groups[0]?.serving === true);
  });

  it('two nodes and a witness: three voters, and any one may fail', async () => {
    await begin();
    await start('witness', 3, 2);
    await waitUntil('three voters', async () => (await voters(1)) === 'n1 up, n2 up, n3 up');
    await waitUntil('a secondary', async () => (await status(1)).groups[0]?.secondary === 'n2');
    const now = await status(3);
    expect(now.nodes.map(({ id, kind }) => `${id} ${kind}`)).toEqual(['n1 data', 'n2 data', 'n3 witness']);
    expect(now.health).toBe('healthy');
    expect(now.findings).toEqual([]);
    expect(now.groups[0]?.learners).toEqual([]);
    // A witness is started as one, and a node with data as one.
    await kill(3);
    const wrong = await tatami(['node', '--data', join(directory, 'n3'), '--key-file', key]);
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringMatching(/is a witness/)]);
    await start('witness', 3);
    // Without the second node the first one goes on alone: the witness agrees to drop it.
    await kill(2);
    await waitUntil('the group goes on', async () => {
      const { groups } = await status(3);
      return groups[0]?.serving === true && groups[0].secondary === null;
    });
    await mustTatami(['put', key, '/file', ...at(1)]);
    // It comes back; then the first one is lost, and the second one goes on.
    await start('node', 2);
    await waitUntil('a secondary again', async () => (await status(3)).groups[0]?.secondary === 'n2', 60_000);
    await kill(1);
    await waitUntil('the second goes on', async () => {
      const [group] = (await status(3)).groups;
      return group?.serving === true && group.primary === 'n2';
    });
    expect(await mustTatami(['get', '/file', '-', ...at(2)])).toBe(await readFile(key, 'utf8'));
    await mustTatami(['put', key, '/other', ...at(2)]);
  });
});
