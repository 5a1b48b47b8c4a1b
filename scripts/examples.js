// @ts-check
/**
 * Runs an example as a user would, and compares what it prints with its own `// prints ...` comments, in order:
 *
 *   node scripts/examples.js [NAME...]      default: all of examples/
 *
 * One that takes DATA_DIRECTORY gets a cluster of this machine, without a mount, in a temporary folder.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const examples = join(root, 'examples');
const tatami = join(root, 'dist', 'src', 'cli', 'main.js');

const all = readdirSync(examples).filter((name) => /\.m?js$/.test(name));
const wanted = process.argv.length > 2 ? process.argv.slice(2).map((name) => basename(name)) : all.sort();
for (const name of wanted) {
  const folder = mkdtempSync(join(tmpdir(), 'tatami-example-'));
  try {
    const trouble = runExample(name, folder);
    console.log(`${name}: ${trouble ?? 'prints what it says'}`);
    if (trouble !== undefined) process.exitCode = 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * @param {string} name
 * @param {string} folder scratch
 * @returns {string | undefined} what is wrong
 */
function runExample(name, folder) {
  const path = join(examples, name);
  const source = readFileSync(path, 'utf8');
  const expected = [...source.matchAll(/\/\/ prints (.*)$/gm)].map((match) => match[1] ?? '');
  if (expected.length === 0) return 'has no "// prints" comment';
  const data = join(folder, 'data');
  const needsCluster = source.includes('DATA_DIRECTORY');
  if (needsCluster) {
    const up = run([tatami, 'up', '--detach', '--no-mount', '--data', data], folder);
    if (up.status !== 0) return `tatami up failed:\n${up.text}`;
  }
  try {
    const ran = run(needsCluster ? [path, data] : [path], folder);
    if (ran.status !== 0) return `ended with ${ran.status}:\n${ran.text}`;
    const printed = ran.stdout.split('\n').filter((line) => line !== '');
    if (printed.join('\n') === expected.join('\n')) return undefined;
    return `should print:\n${expected.join('\n')}\nbut printed:\n${printed.join('\n')}`;
  } finally {
    if (needsCluster) {
      const down = run([tatami, 'down', '--data', data], folder);
      if (down.status !== 0) console.error(`tatami down failed:\n${down.text}`);
    }
  }
}

/**
 * @param {string[]} args
 * @param {string} folder
 */
function run(args, folder) {
  const env = { ...process.env, TMPDIR: folder };
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: folder,
    env,
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status: status ?? signal, stdout, text: `${stdout}${stderr}` };
}
