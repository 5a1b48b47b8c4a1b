/**
 * Makes tatamifs known to mount(8), umount(8) and systemd: small files in /sbin, where alone mount(8) looks for helpers, which run
 * this very program; and the unit of nodes.
 */
import { chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { UsageError } from '../../errors.ts';
import { shellWord } from '../own-command.ts';
import { note, print } from '../output.ts';
import { MAIN, ROOT } from '../places.ts';

export interface InstallHelpersOptions {
  /** Instead of `/`: for packages. */
  readonly prefix?: string;
  readonly uninstall?: boolean;
  /** False with --no-units. */
  readonly units?: boolean;
}

/** By this line a file is known to be ours: others are neither overwritten nor removed. */
const MARK = '# Written by `tatami install-helpers`, which can also remove it (--uninstall).';

interface InstalledFile {
  /** Below the prefix. */
  readonly path: string;
  readonly mode: number;
  readonly text: () => Promise<string>;
}

const HELPERS: readonly InstalledFile[] = [
  helper('mount.tatamifs', 'mount-helper'),
  // mount(8) looks for this one when it is given the type that /proc/mounts shows, as with -o remount.
  helper('mount.fuse.tatamifs', 'mount-helper'),
  helper('umount.fuse.tatamifs', 'umount-helper'),
];

const UNITS: readonly InstalledFile[] = [
  {
    path: 'etc/systemd/system/tatami-node@.service',
    mode: 0o644,
    text: async () => {
      const unit = await readFile(join(ROOT, 'packaging', 'tatami-node@.service'), 'utf8');
      return `${MARK}\n${unit.replace('/usr/bin/tatami', () => `${systemdWord(process.execPath)} ${systemdWord(MAIN)}`)}`;
    },
  },
];

function helper(name: string, word: string): InstalledFile {
  const run = `exec ${shellWord(process.execPath)} ${shellWord(MAIN)} ${word} "$@"`;
  return { path: `sbin/${name}`, mode: 0o755, text: () => Promise.resolve(`#!/bin/sh\n${MARK}\n${run}\n`) };
}

/** As systemd.service(5) wants paths: in quotes where they have blanks, and `%` and `$` doubled. */
function systemdWord(path: string): string {
  const escaped = path
    .replaceAll('%', '%%')
    .replaceAll('$', () => '$$')
    .replaceAll('\\', '\\\\')
    .replaceAll('"', '\\"');
  return /\s|"/.test(path) ? `"${escaped}"` : escaped;
}

/**
 * Installs or removes the files, and says each. Repeated, it writes them anew: after the program has moved.
 *
 * @throws UsageError if one cannot be written, or is somebody else's.
 */
export async function installHelpers(options: InstallHelpersOptions): Promise<void> {
  const prefix = resolve(options.prefix ?? '/');
  const withSystemd = options.prefix !== undefined || existsSync('/etc/systemd/system');
  const files = [...HELPERS, ...(options.units !== false && withSystemd ? UNITS : [])];
  if (options.uninstall === true) return uninstall(prefix);
  for (const file of files) await checkOurs(join(prefix, file.path));
  for (const { path, mode, text } of files) {
    await put(join(prefix, path), await text(), mode);
    print(`wrote ${join(prefix, path)}`);
  }
  if (options.units !== false && !withSystemd) note('no systemd here: its unit for nodes is left out');
  print('now: mount -t tatamifs HOST:PORT[,HOST:PORT] DIR -o key_file=FILE, or the same in a line of /etc/fstab');
  tellSystemd(options);
}

async function uninstall(prefix: string): Promise<void> {
  let removed = 0;
  for (const { path } of [...HELPERS, ...UNITS]) {
    const full = join(prefix, path);
    const text = await textOf(full);
    if (text === undefined) continue;
    if (!text.includes(MARK)) {
      note(`left ${full}: it was not written by this command`);
      continue;
    }
    await rm(full).catch((error: unknown) => refuse(full, error));
    print(`removed ${full}`);
    removed += 1;
  }
  if (removed === 0) print('nothing of tatamifs was installed');
  else tellSystemd({ prefix });
}

function tellSystemd({ prefix = '/' }: InstallHelpersOptions): void {
  if (resolve(prefix) === '/' && existsSync('/run/systemd/system')) print('then: systemctl daemon-reload');
}

async function checkOurs(path: string): Promise<void> {
  const text = await textOf(path);
  if (text === undefined || text.includes(MARK)) return;
  throw new UsageError(`${path} is there, and was not written by this command`, {
    remedy: 'Nothing was changed. See what it is, move it away and try again.',
  });
}

/** Undefined if there is no such file. */
async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** Whole or not at all: mount(8) may run it at any time. */
async function put(path: string, text: string, mode: number): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(`${path}.new`, text);
    // Whatever the umask, and whatever was there: it is run for users, too.
    await chmod(`${path}.new`, mode);
    await rename(`${path}.new`, path);
  } catch (error) {
    refuse(path, error);
  }
}

function refuse(path: string, error: unknown): never {
  throw new UsageError(`cannot write ${path}: ${(error as Error).message}`, {
    remedy: 'Run it as root, or put the files elsewhere with --prefix DIR.',
    cause: error,
  });
}
