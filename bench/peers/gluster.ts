/** GlusterFS from Debian's packages. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ADDRESSES, until } from './sandbox.ts';
import type { Sandbox } from './sandbox.ts';
import type { PeerKind, Place } from './types.ts';

const VOLUME = 'peers';
const [HOST] = ADDRESSES;
/** Where its programs keep what they keep, however they are configured: covered by directories of ours. */
const COVERED = { '/run': 'run', '/var/lib/glusterd': 'glusterd', '/var/log/glusterfs': 'log' } as const;
/**
 * Pairs of bricks over three servers in a ring, so that each server has two of the six: with two copies on three servers
 * that is how GlusterFS uses them all.
 */
const BRICK_PAIRS = [
  ['s1/a', 's2/a'],
  ['s2/b', 's3/b'],
  ['s3/c', 's1/c'],
] as const;

function bricks(place: Place): string[] {
  return BRICK_PAIRS.flat().map((name) => join(place.directory, 'bricks', name));
}

function gluster(sandbox: Sandbox, ...args: string[]): Promise<string> {
  return sandbox.run('gluster', '--mode=script', ...args);
}

/** Bricks that `gluster volume status --xml` says are online: its own process of each has a port and answers. */
export function onlineBricks(xml: string): number {
  const nodes = xml.match(/<node>.*?<\/node>/gs) ?? [];
  return nodes.filter((node) => /<path>\//.test(node) && /<status>1<\/status>/.test(node)).length;
}

export const glusterFs: PeerKind = {
  name: 'GlusterFS',
  programs: { glusterd: 'glusterfs-server', gluster: 'glusterfs-server', glusterfs: 'glusterfs-client' },
  layout:
    'one glusterd; distributed-replicated volume, replica 2, three pairs of bricks in a ring over three server directories, each brick a process; default options',

  version() {
    const [line = ''] = execFileSync('glusterfs', ['--version'], { encoding: 'utf8' }).split('\n');
    return line.trim();
  },

  async create(place) {
    for (const directory of [...Object.values(COVERED).map((name) => join(place.directory, name)), ...bricks(place)]) {
      mkdirSync(directory, { recursive: true });
    }
  },

  async start(place, sandbox, first) {
    for (const [directory, name] of Object.entries(COVERED)) {
      await sandbox.cover(directory, join(place.directory, name));
    }
    // What is in there of an earlier start would name processes of a namespace that is gone.
    await sandbox.run('sh', '-c', 'rm -rf /run/* && mkdir -p /run/gluster');
    await sandbox.run('glusterd');
    await until('glusterd answers', async () => (await gluster(sandbox, 'pool', 'list')) !== '');
    if (first) {
      const names = bricks(place).map((path) => `${HOST}:${path}`);
      await gluster(sandbox, 'volume', 'create', VOLUME, 'replica', '2', ...names, 'force');
      await gluster(sandbox, 'volume', 'start', VOLUME);
    }
    const all = bricks(place).length;
    await until(`${all} bricks online`, async () => {
      return onlineBricks(await gluster(sandbox, 'volume', 'status', VOLUME, '--xml')) === all;
    });
  },

  async mount(place, sandbox) {
    await sandbox.run('mount', '-t', 'glusterfs', `${HOST}:/${VOLUME}`, place.mountPoint);
    const connected = 'cat "$1"/.meta/graphs/active/*-client-*/private | grep -c "^connected = 1"';
    await until('the mount is connected to all bricks', async () => {
      const count = await sandbox.run('sh', '-c', connected, 'sh', place.mountPoint);
      return Number(count) === bricks(place).length;
    });
  },

  isMount: (commandLine) => commandLine.includes('--process-name fuse'),
};
