// @ts-check
/**
 * `npm start`: sees that the machine has what is needed, builds, and runs the main job (`tatami up`): a three-node
 * cluster on this machine, mounted, in the foreground.
 */
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensurePrograms } from './system-packages.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * Prints what is wrong and what to do, and ends.
 *
 * @param {string} text
 * @param {string} remedy
 * @returns {never}
 */
function refuse(text, remedy) {
  process.stderr.write(`error: ${text}\n  ${remedy}\n`);
  process.exit(2);
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  refuse(`Node ${process.versions.node} is too old`, 'Install Node 20.19 or newer.');
}
if (!existsSync('/dev/fuse')) {
  const container = 'In a container, start it with --device /dev/fuse --cap-add SYS_ADMIN.';
  refuse('/dev/fuse does not exist', `Load the kernel module: modprobe fuse. ${container}`);
}
if (process.getuid?.() !== 0) {
  // Without root the kernel is reached through the setuid fusermount.
  const { ok, remedy } = ensurePrograms(['fusermount'], (text) => process.stdout.write(`${text}\n`));
  if (!ok) refuse('mounting without root needs fusermount', remedy ?? 'Install Debian’s package fuse.');
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch {
    refuse('/dev/fuse cannot be opened by this user', 'Run once: sudo chmod 666 /dev/fuse');
  }
}

process.stdout.write('building …\n');
const build = spawnSync(process.execPath, [join(root, 'scripts', 'build.js')], { stdio: 'inherit' });
if (build.status !== 0) process.exit(build.status ?? 1);

const main = join(root, 'dist', 'src', 'cli', 'main.js');
const child = spawn(process.execPath, [main, 'up', ...process.argv.slice(2)], { stdio: 'inherit' });
// Ctrl-C reaches the child from the terminal; what is sent to us alone is passed on. The child ends us by its end.
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  process.on(signal, () => {
    if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
  });
}
child.on('error', (error) => {
  console.error(error.message);
  process.exitCode = 1;
});
child.on('exit', (code, signal) => {
  process.exitCode = code ?? (signal === null ? 1 : 128);
});
