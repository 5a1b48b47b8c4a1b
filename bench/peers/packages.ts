/** Debian's packages of the peers: which are missing, and their installation without a service being started. */
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { TatamiError, UsageError } from '../../src/errors.ts';
import type { PeerKind } from './types.ts';

const FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
/** Debian's maintainer scripts ask it before they start a service; 101 is no. */
const POLICY = '/usr/sbin/policy-rc.d';
const POLICY_TEXT = '#!/bin/sh\n# Of `tatami bench peers --install`, for as long as that installs.\nexit 101\n';

/** Packages of programs that are not on this machine, sorted, each once. */
export function missingPackages(
  kinds: readonly Pick<PeerKind, 'programs'>[],
  isThere: (program: string) => boolean = hasProgram,
): string[] {
  const wanted = kinds.flatMap(({ programs }) => Object.entries(programs));
  const missing = wanted.filter(([program]) => !isThere(program)).map(([, name]) => name);
  return [...new Set(missing)].sort();
}

function hasProgram(program: string): boolean {
  return FOLDERS.some((folder) => existsSync(`${folder}/${program}`));
}

export function installCommand(packages: readonly string[]): string {
  return `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
}

/** Sees to it that all are there; without `install` it only says what is missing. */
export function ensurePackages(
  kinds: readonly Pick<PeerKind, 'programs'>[],
  install: boolean,
  say: (line: string) => void,
): void {
  const missing = missingPackages(kinds);
  if (missing.length === 0) return;
  if (!install) {
    throw new UsageError(`not installed: ${missing.join(', ')}`, {
      remedy: `Give --install, which starts no service, or run: ${installCommand(missing)}`,
    });
  }
  say(`installing ${missing.join(', ')}; their services are not started`);
  withoutServices(() => {
    // Package lists of a fresh machine are often empty or old.
    if (apt(installCommand(missing)) === undefined) return;
    apt('apt-get update');
    const error = apt(installCommand(missing));
    if (error !== undefined) {
      throw new TatamiError('ERR_BENCH', `could not install ${missing.join(', ')}: ${error}`, {
        remedy: 'Debian 12 has them all; elsewhere install GlusterFS and MooseFS by other means.',
      });
    }
  });
}

function withoutServices(work: () => void): void {
  // Whoever has a policy already has decided.
  const own = !existsSync(POLICY);
  if (own) writeFileSync(POLICY, POLICY_TEXT, { mode: 0o755 });
  try {
    work();
  } finally {
    if (own) rmSync(POLICY, { force: true });
  }
}

/** Its complaint, or undefined. */
function apt(command: string): string | undefined {
  const [program = '', ...args] = command.split(' ');
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // Ctrl-C ends it too; the policy is taken away in any case.
  const { status, error, stderr } = spawnSync(program, args, {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  });
  if (status === 0) return undefined;
  return error?.message ?? stderr.trim().split('\n').slice(-3).join('; ');
}
