/** init, node, mount and umount, one process each, as on several machines: on loopback addresses and in network namespaces. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestHosts } from './hosts.ts';
import { TATAMI, mountsBelow, mustTatami, run, tatami, waitUntil } from './support.ts';
import type { StatusJson } from './support.ts';

describe('a cluster made by hand', () => {
  let directory: string;
  let key: string;
  const running: ChildProcess[] = [];
  let hosts: TestHosts | undefined;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tatami-hand-'));
    key = join(directory, 'cluster.key');
  });
  afterEach(async () => {
    await run('umount', ['-l', join(directory, 'mnt')]);
    for (const child of running.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    await hosts?.destroy();
    hosts = undefined;
    await rm(directory, { recursive: true, force: true });
  });

  /** Runs a node until the test ends; resolves when it serves. */
  async function node(args: readonly string[]): Promise<ChildProcess> {
    const child = spawn(process.execPath, [TATAMI, 'node', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    running.push(child);
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text));
    let ready = false;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (ready ||= text.includes('serves at')));
    await waitUntil(`node ${args.join(' ')}`, () => {
      if (child.exitCode !== null) throw new Error(`the node ended with ${child.exitCode}\n${said}`);
      return ready;
    });
    return child;
  }

  const status = async (where: readonly string[]): Promise<StatusJson> =>
    JSON.parse((await tatami(['status', '--json', ...where])).stdout) as StatusJson;

  it('grows from one node to three, on addresses of their own', async () => {
    const first = join(directory, 'one');
    await mustTatami(['init', '--data', first, '--listen', '127.0.1.1:17400', '--key-file', key, '--id', 'one']);
    await node(['--data', first, '--key-file', key]);
    const where = ['--connect', '127.0.1.1:17400', '--key-file', key];
    writeFileSync(join(directory, 'local'), Buffer.alloc(6_000_000, 'a'));
    await mustTatami(['put', join(directory, 'local'), '/early', ...where]);
    for (const [index, id] of ['two', 'three'].entries()) {
      const address = `127.0.1.${index + 2}:17400`;
      const joining = ['--data', join(directory, id), '--listen', address, '--join', '127.0.1.1:17400'];
      await node([...joining, '--key-file', key, '--id', id]);
    }
    let now = await status(where);
    await waitUntil('a secondary was appointed', async () => {
      now = await status(where);
      return now.groups[0]?.secondary !== null && now.groups[0]?.serving === true;
    });
    expect(now.nodes.map((each) => [each.id, each.state])).toEqual([
      ['one', 'up'],
      ['two', 'up'],
      ['three', 'up'],
    ]);
    const mount = join(directory, 'mnt');
    mkdirSync(mount);
    await mustTatami(['mount', mount, ...where]);
    expect(readFileSync(join(mount, 'early')).equals(readFileSync(join(directory, 'local')))).toBe(true);
    writeFileSync(join(mount, 'late'), Buffer.alloc(9_000_000, 'b'));
    // Every machine can be asked.
    const elsewhere = ['--connect', '127.0.1.3:17400', '--key-file', key];
    expect(await mustTatami(['ls', '/', ...elsewhere])).toBe('early\nlate\n');
    // A second node of the same name is refused and changes nothing.
    const again = [
      'node',
      '--data',
      join(directory, 'again'),
      '--listen',
      '127.0.1.9:17400',
      '--join',
      '127.0.1.1:17400',
    ];
    const refused = await tatami([...again, '--key-file', key, '--id', 'two']);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(/has a node two already/)]);
    const inUse = spawn('sleep', ['60'], { cwd: mount });
    const busy = await tatami(['umount', mount]);
    expect(busy.code).toBe(1);
    expect(busy.stderr).toMatch(/in use by sleep \(pid \d+\)/);
    inUse.kill();
    await once(inUse, 'exit');
    const link = join(directory, 'link');
    symlinkSync('mnt', link);
    await mustTatami(['umount', link]);
    expect(mountsBelow(mount)).toEqual([]);
  });

  it('speaks TLS between network namespaces', async () => {
    hosts = await TestHosts.make(3);
    const net = hosts;
    const at = (index: number) => `${net.address(index)}:7400`;
    const data = (id: string) => join(directory, id);
    await mustTatami(['init', '--data', data('h1'), '--listen', at(1), '--key-file', key, '--id', 'h1']);
    await hosts.startNode(1, ['--data', data('h1'), '--key-file', key]);
    for (const index of [2, 3]) {
      const id = `h${index}`;
      const joining = ['--data', data(id), '--listen', at(index), '--join', at(1)];
      await hosts.startNode(index, [...joining, '--key-file', key, '--id', id]);
    }
    const where = ['--connect', `${at(1)},${at(2)}`, '--key-file', key];
    await waitUntil('a secondary was appointed', async () => {
      const now = await status(where);
      return now.groups[0]?.secondary !== null && now.groups[0]?.serving === true;
    });
    writeFileSync(join(directory, 'local'), Buffer.alloc(5_000_000, 'c'));
    await mustTatami(['put', join(directory, 'local'), '/file', ...where]);
    // The third machine cut off: the file is still read, and the status says which one is missing.
    await hosts.unplug(3);
    await mustTatami(['get', '/file', join(directory, 'back'), ...where]);
    expect(readFileSync(join(directory, 'back')).equals(readFileSync(join(directory, 'local')))).toBe(true);
    const cut = await status(where);
    expect(cut.nodes.filter((each) => each.state === 'down').map((each) => each.id)).toEqual(['h3']);
    await hosts.plug(3);
    await waitUntil('h3 is back', async () => (await status(where)).nodes.every((each) => each.state === 'up'));
  });
});
