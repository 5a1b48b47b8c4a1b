/** MooseFS from Debian's packages. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ADDRESSES, until } from './sandbox.ts';
import type { Sandbox } from './sandbox.ts';
import type { PeerKind, Place } from './types.ts';

const [MASTER] = ADDRESSES;
const COPIES = 2;
const CHUNK_PORT = 9422;
/** The port on which the master hears chunk servers, as /proc/net/tcp writes it. */
const MASTER_CHUNK_PORT = 9420;
/** What the package ships as an empty filesystem's metadata. */
const NEW_METADATA = 'MFSM NEW';
const PROBE = '.probe';

function config(settings: Readonly<Record<string, string | number>>): string {
  return Object.entries(settings)
    .map(([key, value]) => `${key} = ${value}\n`)
    .join('');
}

const USER = { WORKING_USER: 'root', WORKING_GROUP: 'root' } as const;

/** Established connections to a port, in a text like /proc/net/tcp. */
export function connectionsTo(port: number, procNetTcp: string): number {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return procNetTcp.split('\n').filter((line) => {
    const [, local = '', , state] = line.trim().split(/ +/);
    return local.endsWith(wanted) && state === '01';
  }).length;
}

export const mooseFs: PeerKind = {
  name: 'MooseFS',
  layout: 'one master, three chunk servers, goal 2; default settings',
  programs: { mfsmaster: 'moosefs-master', mfschunkserver: 'moosefs-chunkserver', mfsmount: 'moosefs-client' },

  version() {
    return execFileSync('mfsmaster', ['-v'], { encoding: 'utf8' }).trim().replace('version:', 'MooseFS');
  },

  async create({ directory }) {
    const master = join(directory, 'master');
    mkdirSync(master, { recursive: true });
    writeFileSync(join(master, 'metadata.mfs'), NEW_METADATA);
    writeFileSync(join(directory, 'exports.cfg'), '* / rw,alldirs,admin,maproot=0:0\n');
    const masterConfig = { ...USER, DATA_PATH: master, EXPORTS_FILENAME: join(directory, 'exports.cfg') };
    writeFileSync(join(directory, 'master.cfg'), config(masterConfig));
    ADDRESSES.forEach((address, index) => {
      const own = join(directory, `chunks-${index + 1}`);
      mkdirSync(join(own, 'data'), { recursive: true });
      mkdirSync(join(own, 'state'));
      writeFileSync(join(own, 'hdd.cfg'), `${join(own, 'data')}\n`);
      const chunkConfig = {
        ...USER,
        DATA_PATH: join(own, 'state'),
        HDD_CONF_FILENAME: join(own, 'hdd.cfg'),
        MASTER_HOST: MASTER,
        BIND_HOST: address,
        CSSERV_LISTEN_HOST: address,
        CSSERV_LISTEN_PORT: CHUNK_PORT,
      };
      writeFileSync(join(own, 'chunkserver.cfg'), config(chunkConfig));
    });
  },

  async start({ directory }, sandbox) {
    await sandbox.run('mfsmaster', '-c', join(directory, 'master.cfg'), 'start');
    for (const [index] of ADDRESSES.entries()) {
      await sandbox.run('mfschunkserver', '-c', join(directory, `chunks-${index + 1}`, 'chunkserver.cfg'), 'start');
    }
    await until('three chunk servers at the master', async () => {
      const connections = await sandbox.run('cat', '/proc/net/tcp');
      return connectionsTo(MASTER_CHUNK_PORT, connections) === ADDRESSES.length;
    });
  },

  async mount(place, sandbox) {
    await sandbox.run('mfsmount', place.mountPoint, '-H', MASTER);
    await sandbox.run('mfssetgoal', '-r', String(COPIES), place.mountPoint);
    await settled(place, sandbox);
  },

  isMount: (commandLine) => commandLine.startsWith('mfsmount') || commandLine.includes('/mfsmount'),
};

/** Until a small file can be written with both copies: right after its start the master does not know all servers. */
async function settled(place: Place, sandbox: Sandbox): Promise<void> {
  const probe = join(place.mountPoint, PROBE);
  await until('a file gets its copies', async () => {
    await sandbox.run('sh', '-c', 'echo probe > "$1" && sync "$1"', 'sh', probe);
    const info = await sandbox.run('mfsfileinfo', probe);
    return (info.match(/copy \d+:/g) ?? []).length >= COPIES;
  });
  await sandbox.run('rm', probe);
}
