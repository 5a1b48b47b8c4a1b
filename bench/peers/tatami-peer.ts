/** tatamifs: three nodes, two copies, default settings, as the other benchmarks have it. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Sandbox } from './sandbox.ts';
import type { PeerKind, Place } from './types.ts';

const TATAMI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

function tatami(sandbox: Sandbox, ...args: string[]): Promise<string> {
  return sandbox.run(process.execPath, TATAMI, ...args);
}

function where(place: Place): string[] {
  return ['--data', join(place.directory, 'data')];
}

export function tatamiFs(version: string): PeerKind {
  return {
    name: 'tatamifs',
    programs: {},
    layout: 'three nodes, two copies; default settings',
    version: () => `tatamifs ${version}, Node ${process.versions.node}`,

    // `up` makes what it does not find.
    create: async () => undefined,

    async start(place, sandbox, first) {
      const made = first ? ['--nodes', '3', '--copies', '2'] : [];
      await tatami(sandbox, 'up', ...where(place), '--no-mount', '--detach', ...made);
    },

    async mount(place, sandbox) {
      // Whatever does not run: the mount.
      await tatami(sandbox, 'up', ...where(place), '--mount', place.mountPoint, '--detach');
    },

    async stop(place, sandbox) {
      await tatami(sandbox, 'down', ...where(place));
    },

    isMount: (commandLine) => /main\.js mount /.test(commandLine),
  };
}
