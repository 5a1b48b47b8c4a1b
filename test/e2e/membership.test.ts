/** Machines that come into a cluster and leave it, in real processes. */
import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { mustTatami, startTatami, tatami, waitUntil } from './support.ts';
import type { StatusJson } from './support.ts';

describe('machines that come and go', () => {
  let directory: string;
  let key: string;
  const running = new Map<number, ReturnType<typeof startTatami>>();
  const address = (index: number) => `127.0.3.${index}:17500`;
  const dataOf = (index: number) => join(directory, `n${index}`);
  const at = (index: number) => ['--connect', address(index), '--key-file', key];
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tatami-membership-'));
    key = join(directory, 'cluster.key');
    const first = ['--data', dataOf(1), '--listen', address(1), '--key-file', key, '--id', 'n1'];
    await mustTatami(['init', ...first, '--host', 'n1']);
    await start(1, ['node', '--data', dataOf(1), '--key-file', key]);
  });
  afterEach(async () => {
    for (const { child } of running.values()) child.kill('SIGKILL');
    await Promise.all([...running.values()].map(({ ended }) => ended));
    running.clear();
    await rm(directory, { recursive: true, force: true });
  });

  async function start(index: number, args: readonly string[], input?: string): Promise<void> {
    const started = startTatami(args);
    running.set(index, started);
    started.child.stdin.end(input);
    await started.says('serves at');
  }
  const ofNew = (index: number) => ['--data', dataOf(index), '--listen', address(index), '--id', `n${index}`];
  const status = async (through: number): Promise<StatusJson> =>
    JSON.parse((await tatami(['status', '--json', ...at(through)])).stdout) as StatusJson;
  const ids = async (through: number) => (await status(through)).nodes.map(({ id, state }) => `${id} ${state}`);

  it('by address and key, by a token on standard input, and by one in the environment', async () => {
    await start(2, ['node', 'join', `${address(9)},${address(1)}`, ...ofNew(2), '--key-file', key]);
    const token = (await mustTatami(['node', 'token', ...at(2)])).trim();
    expect(token).toMatch(/^tatami-token-1\.\S+$/);
    await start(3, ['node', 'join', '--token', '-', ...ofNew(3)], `${token}\n`);
    expect(await ids(3)).toEqual(['n1 up', 'n2 up', 'n3 up']);
    // The key was kept for the next start, and only for its owner.
    expect(readFileSync(join(dataOf(3), 'cluster.key'), 'utf8')).toBe(readFileSync(key, 'utf8'));
    expect(statSync(join(dataOf(3), 'cluster.key')).mode & 0o777).toBe(0o600);
    const third = running.get(3)!;
    third.child.kill('SIGTERM');
    expect(await third.ended).toBe(0);
    await start(3, ['node', '--data', dataOf(3)]);
    await waitUntil('n3 is back', async () => (await ids(1)).includes('n3 up'));
    // Its directory is enough to find the cluster; and joining again is starting.
    expect(await mustTatami(['node', 'token', '--data', dataOf(3)])).toMatch(/^tatami-token-1\./);
    third.child.kill('SIGKILL');
    running.get(3)!.child.kill('SIGKILL');
    await running.get(3)!.ended;
    await start(3, ['node', 'join', '--data', dataOf(3)]);
  });

  it('and those that cannot are told why, and leave nothing behind', async () => {
    const token = (await mustTatami(['node', 'token', ...at(1)])).trim();
    const refused = async (args: readonly string[], env: Record<string, string> = {}) => {
      const { code, stderr } = await tatami(['node', 'join', ...args], { env });
      return `${code} ${stderr}`;
    };
    const given = ofNew(2);
    expect(await refused(given)).toMatch(/^2 .*the cluster key is needed[^]*tatami node token/);
    expect(await refused([...given, '--token', 'hello'])).toMatch(/^2 [^]*not a join token/);
    expect(await refused([...given, '--token', token.slice(0, -1)])).toMatch(/^2 [^]*damaged, or not whole/);
    expect(await refused(given, { TATAMI_TOKEN: 'tatami-token-9.a.b' })).toMatch(/^2 [^]*newer format/);
    expect(await refused([...given, '--token', token, '--key-file', key])).toMatch(/^2 [^]*two ways/);
    expect(await refused([...given, '--key-file', key])).toMatch(/^2 [^]*An address is missing/);
    expect(await refused(['nowhere', ...given, '--key-file', key])).toMatch(/^2 [^]*nowhere[^]*host:port/);
    expect(await refused([',', ...given, '--key-file', key])).toMatch(/^2 [^]*no address is given/);
    expect(await refused([address(9), ...given, '--key-file', key])).toMatch(/^3 [^]*no node answers at 127.0.3.9/);
    expect(await refused([address(1), '--data', dataOf(2), '--key-file', key])).toMatch(/^2 [^]*--listen is missing/);
    expect(await refused([address(1), ...ofNew(2), '--id', 'N 2', '--key-file', key])).toMatch(
      /^2 [^]*cannot be the name/,
    );
    expect(await refused([address(1), ...ofNew(2), '--id', 'n1', '--key-file', key])).toMatch(
      /^2 [^]*has a node n1 already/,
    );
    expect(await refused([address(1), '--listen', address(2), '--key-file', key])).toMatch(/^2 [^]*--data/);
    const full = join(directory, 'full');
    await mustTatami(['init', '--data', full, '--listen', address(8), '--key-file', join(directory, 'other.key')]);
    expect(await refused([address(1), '--data', full, '--key-file', key])).toMatch(/^2 [^]*belongs to cluster/);
    writeFileSync(join(directory, 'file'), '');
    expect(await refused([address(1), ...ofNew(2), '--data', join(directory, 'file'), '--key-file', key])).toMatch(
      /^[12] [^]*file/,
    );
    expect(await ids(1)).toEqual(['n1 up']);
    // After all of that it can still join.
    await start(2, ['node', 'join', address(1), ...given, '--key-file', key]);
  });

  /** Three nodes with the same data on all of them, and a file of some blocks. */
  async function threeNodes(): Promise<string> {
    for (const index of [2, 3]) {
      await start(index, ['node', 'join', address(1), ...ofNew(index), '--host', `n${index}`, '--key-file', key]);
    }
    await waitUntil('three voters', async () => (await status(1)).voters.length === 3);
    const file = join(directory, 'file');
    writeFileSync(file, randomBytes(20 << 20));
    await mustTatami(['put', file, '/file', ...at(1)]);
    return file;
  }

  async function sameFile(file: string, through: number): Promise<void> {
    const copy = join(directory, 'copy');
    await mustTatami(['get', '/file', copy, ...at(through)]);
    expect(readFileSync(copy).equals(readFileSync(file))).toBe(true);
    await rm(copy);
  }

  it('the primary, a voter, is drained under writes, removed, and told so when it comes back', async () => {
    const file = await threeNodes();
    await start(4, ['node', 'join', address(1), ...ofNew(4), '--host', 'n4', '--key-file', key]);
    let writing = true;
    const wrote: string[] = [];
    const writer = (async () => {
      for (let round = 0; writing; round++) {
        await mustTatami(['put', file, `/while-${round}`, ...at(4)]);
        wrote.push(`/while-${round}`);
      }
    })();
    const unfinished = await tatami(['node', 'remove', 'n1', ...at(2)]);
    expect([unfinished.code, unfinished.stderr]).toEqual([2, expect.stringMatching(/n1 runs, and it is not drained/)]);
    expect(await mustTatami(['node', 'drain', 'n1', ...at(2)])).toMatch(/n1 is drained/);
    writing = false;
    await writer;
    expect(wrote.length).toBeGreaterThan(0);
    const now = await status(2);
    expect(now.voters.map(({ id }) => id).sort()).toEqual(['n2', 'n3', 'n4']);
    expect([now.groups[0]?.primary, now.groups[0]?.secondary]).not.toContain('n1');
    expect(await mustTatami(['node', 'remove', 'n1', ...at(2)])).toMatch(/n1 is out of the cluster/);
    const gone = running.get(1)!;
    expect(await gone.ended).toBe(1);
    expect(gone.output.stderr).toMatch(/node n1 was removed from the cluster/);
    const back = await tatami(['node', '--data', dataOf(1), '--key-file', key]);
    expect([back.code, back.stderr]).toEqual([1, expect.stringMatching(/n1 was removed[^]*new directory/)]);
    for (const index of [2, 3, 4]) await sameFile(file, index);
    expect((await tatami(['fsck', ...at(2)])).code).toBe(0);
    const again = await tatami(['node', 'remove', 'n1', ...at(2)]);
    expect([again.code, again.stdout]).toEqual([0, expect.stringMatching(/n1 is out/)]);
  });

  it('one that holds the only copies is not removed; what is wrong with a name is said', async () => {
    await start(2, ['node', 'join', address(1), ...ofNew(2), '--host', 'n2', '--key-file', key]);
    await waitUntil('a secondary', async () => (await status(1)).groups[0]?.secondary === 'n2');
    for (const command of [
      ['drain', 'n9'],
      ['remove', 'n9'],
    ]) {
      const { code, stderr } = await tatami(['node', ...command, ...at(1)]);
      expect([code, stderr]).toEqual([2, expect.stringMatching(/no node n9[^]*n1, n2/)]);
    }
    expect((await tatami(['node', 'drain', ...at(1)])).stderr).toMatch(/missing required argument/);
    expect((await tatami(['node', 'drain', 'N!', ...at(1)])).stderr).toMatch(/cannot be the name of a node/);
    expect((await tatami(['node', 'drain', 'n2', '--undo', ...at(1)])).stdout).toMatch(/takes data again/);
    await mustTatami(['node', 'drain', 'n1', ...at(2)]);
    expect((await tatami(['node', 'drain', 'n2', ...at(2)])).stderr).toMatch(/last one that takes data/);
    // What is put now is on n2 alone; n1 takes data again and n2 is drained, but dies before anything is copied.
    const file = join(directory, 'file');
    writeFileSync(file, randomBytes(5 << 20));
    await mustTatami(['put', file, '/file', ...at(2)]);
    expect(await mustTatami(['node', 'remove', 'n1', ...at(2)])).toMatch(/n1 is out/);
    await start(3, ['node', 'join', address(2), ...ofNew(3), '--host', 'n3', '--key-file', key]);
    await waitUntil('a secondary', async () => (await status(2)).groups[0]?.secondary === 'n3');
    await mustTatami(['node', 'drain', 'n2', ...at(3)]);
    await sameFile(file, 3);
    await mustTatami(['node', 'remove', 'n2', ...at(3)]);
    await sameFile(file, 3);
    expect(await ids(3)).toEqual(['n3 up']);
  });

  it('a node whose data directory is gone is replaced by a new one, under another name', async () => {
    const file = await threeNodes();
    const replace = (old: string, ...more: string[]) =>
      tatami(['node', 'replace', old, address(1), ...more, '--key-file', key]);
    const given = ['--data', dataOf(4), '--listen', address(4), '--host', 'n3'];
    expect((await replace('n3', ...given)).stderr).toMatch(/node n3 runs/);
    expect((await replace('n9', ...given)).stderr).toMatch(/no node n9 to replace[^]*n1, n2, n3/);
    expect((await replace('n3', '--data', dataOf(4))).stderr).toMatch(/--listen is missing/);
    running.get(3)!.child.kill('SIGKILL');
    await running.get(3)!.ended;
    await rm(dataOf(3), { recursive: true });
    await waitUntil('n3 is missed', async () => (await ids(1)).includes('n3 down'));
    await start(4, ['node', 'replace', 'n3', address(1), ...given, '--key-file', key]);
    await running.get(4)!.says('every block is where it belongs again', 60_000);
    expect(await ids(1)).toEqual(['n1 up', 'n2 up', 'n3-2 up']);
    const now = await status(1);
    expect(now.nodes.find(({ id }) => id === 'n3-2')?.blockCount).toBe(now.nodes[0]?.blockCount);
    // The same command goes on where it was: the name and the store are there already, and how far it is is shown again.
    running.get(4)!.child.kill('SIGKILL');
    await running.get(4)!.ended;
    await start(4, ['node', 'replace', 'n3', address(1), ...given, '--key-file', key]);
    await running.get(4)!.says('every block is where it belongs again', 60_000);
    await waitUntil('three voters', async () => (await status(1)).voters.length === 3);
    await sameFile(file, 4);
    expect((await tatami(['fsck', ...at(1)])).code).toBe(0);
    // The old name is not used again.
    const again = await tatami(['node', 'join', address(1), ...ofNew(3), '--key-file', key]);
    expect([again.code, again.stderr]).toEqual([1, expect.stringMatching(/n3 was removed[^]*not used twice/)]);
  });

  it('a group whose primary and secondary are lost goes on with the copy that an operator chooses', async () => {
    const file = await threeNodes();
    for (const index of [4, 5]) {
      await start(index, ['node', 'join', address(1), ...ofNew(index), '--host', `n${index}`, '--key-file', key]);
    }
    await waitUntil('five voters', async () => (await status(1)).voters.length === 5);
    const { primary, secondary } = (await status(1)).groups[0]!;
    const lost = [primary, secondary!].map((id) => Number(id.slice(1)));
    const left = [1, 2, 3, 4, 5].filter((index) => !lost.includes(index));
    const [first = 0, second = 0] = left;
    const force = (...args: string[]) => tatami(['group', 'force', ...args, ...at(first)]);
    expect((await force('g0', '--from', `n${first}`, '--yes')).stderr).toMatch(/group g0 is not lost/);
    for (const index of lost) running.get(index)!.child.kill('SIGKILL');
    for (const index of lost) await running.get(index)!.ended;
    await waitUntil('they are missed', async () => (await ids(first)).filter((id) => id.endsWith('down')).length === 2);
    expect((await force('g9', '--from', `n${first}`)).stderr).toMatch(/no group g9[^]*g0/);
    expect((await force('g0')).stderr).toMatch(/--from/);
    expect((await force('g0', '--from', 'n9', '--yes')).stderr).toMatch(/no node n9/);
    const unasked = await force('g0', '--from', `n${first}`);
    expect([unasked.code, unasked.stderr]).toEqual([2, expect.stringMatching(/will be lost[^]*Say --yes/)]);
    const forced = await force('g0', '--from', `n${first}`, '--yes');
    expect([forced.code, forced.stdout]).toEqual([0, expect.stringMatching(/goes on with the copy of n\d and serves/)]);
    await sameFile(file, second);
    await mustTatami(['put', file, '/after', ...at(second)]);
    // Those that come back set their copies aside and follow.
    for (const index of lost) await start(index, ['node', '--data', dataOf(index), '--key-file', key]);
    await waitUntil('all are up', async () => (await ids(first)).every((id) => id.endsWith('up')));
    for (const index of lost) {
      await waitUntil(`n${index} keeps its old copy`, () =>
        readdirSync(join(dataOf(index), 'meta')).some((name) => name.startsWith('g0.aside-')),
      );
    }
    expect((await status(first)).groups[0]).toMatchObject({ serving: true, primary: `n${first}` });
  });
});
