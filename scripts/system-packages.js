// @ts-check
/**
 * Programs that the machine must have, and the Debian packages they come from. Installs what is missing with apt-get:
 * as root, or by sudo if that asks for no password; otherwise says which one line to run.
 *
 *   node scripts/system-packages.js git sqlite3 rsync
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Program -> Debian package, where the names differ. */
/** @type {Readonly<Record<string, string>>} */
const PACKAGE_OF = {
  fusermount: 'fuse',
  fusermount3: 'fuse3',
  mount: 'mount',
  umount: 'mount',
  flock: 'util-linux',
  unshare: 'util-linux',
  nsenter: 'util-linux',
  diff: 'diffutils',
  ip: 'iproute2',
  xz: 'xz-utils',
  setfattr: 'attr',
  setfacl: 'acl',
  // Not a program, but a file that the end-to-end tests copy from.
  '/usr/src/linux-source-6.1.tar.xz': 'linux-source-6.1',
};

/**
 * @typedef {object} Result
 * @property {boolean} ok everything asked for is there now
 * @property {string[]} installed packages that were installed
 * @property {string[]} missing programs that are still missing
 * @property {string} [remedy] what to run by hand
 */

/**
 * Whether a program is on the PATH (or where root's programs are); or, given an absolute path, whether that file exists.
 * @param {string} program
 */
export function hasProgram(program) {
  if (isAbsolute(program)) return existsSync(program);
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  return folders.some((folder) => {
    if (folder === '') return false;
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * Debian packages for programs.
 * @param {readonly string[]} programs
 */
export function packagesFor(programs) {
  return [...new Set(programs.map((program) => PACKAGE_OF[program] ?? program))].sort();
}

/**
 * Sees to it that the programs are there.
 * @param {readonly string[]} programs
 * @param {(line: string) => void} [say] hears what is done
 * @returns {Result}
 */
export function ensurePrograms(programs, say = (line) => console.log(line)) {
  const missing = programs.filter((program) => !hasProgram(program));
  if (missing.length === 0) return { ok: true, installed: [], missing: [] };
  const packages = packagesFor(missing);
  const line = `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
  const isRoot = process.getuid?.() === 0;
  const remedy = `${isRoot ? '' : 'sudo '}${line}`;
  if (!hasProgram('apt-get')) {
    say(`Missing: ${missing.join(', ')}. This machine has no apt-get: install them with its own package manager.`);
    return { ok: false, installed: [], missing, remedy: `install ${missing.join(', ')}` };
  }
  const prefix = isRoot ? [] : ['sudo', '-n'];
  if (!isRoot && spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status !== 0) {
    say(`Missing: ${missing.join(', ')}. Run this, then try again:\n  ${remedy}`);
    return { ok: false, installed: [], missing, remedy };
  }
  say(`Installing ${packages.join(', ')} (${prefix.join(' ')}${isRoot ? '' : ' '}apt-get) ...`);
  const install = () => run([...prefix, ...line.split(' ')]);
  // The package lists of a fresh machine are often empty or old.
  const first = install();
  const error = first === undefined ? undefined : (run([...prefix, 'apt-get', 'update']), install());
  const left = missing.filter((program) => !hasProgram(program));
  if (left.length === 0) return { ok: true, installed: packages, missing: [] };
  say(`Still missing: ${left.join(', ')}. Run this, then try again:\n  ${remedy}`);
  if (error !== undefined) say(error);
  return { ok: false, installed: [], missing: left, remedy };
}

/**
 * The program's complaint, or undefined if it succeeded.
 * @param {string[]} command
 */
function run(command) {
  const [program = '', ...rest] = command;
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const result = spawnSync(program, rest, { env: environment, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  if (result.status === 0) return undefined;
  return result.error?.message ?? result.stderr.trim();
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const programs = process.argv.slice(2);
  const result = ensurePrograms(programs);
  if (result.ok) console.log(`There: ${programs.join(', ')}`);
  else process.exitCode = 1;
}
