// @ts-check
/**
 * `npm run chaos -- [--rounds 50] [--nodes 5] [--json]`: kill -9 of the current primary, again and again, while a mount and
 * a program write. At the end every acknowledged file must be there, whole, once. Prints how long writing stood still.
 * Exit code 1 if anything was lost, doubled or refused.
 */
import { execFileSync, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const TATAMI = join(root, 'dist', 'src', 'cli', 'main.js');
const WRITER = join(root, 'scripts', 'chaos-writer.js');
/** Longest that a round may take to be in order again. */
const ROUND_LIMIT_MS = 60_000;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '50' },
    nodes: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds);
const folder = mkdtempSync(join(tmpdir(), 'tatami-chaos-'));
const data = join(folder, 'data');
const mount = join(folder, 'mnt');

/** @param {string[]} args */
function tatami(...args) {
  try {
    return execFileSync(process.execPath, [TATAMI, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    // 4: done, but not well; the status is on standard output all the same.
    const failed = /** @type {{ status?: number, stdout?: string }} */ (error);
    if (failed.status === 4) return failed.stdout ?? '';
    throw error;
  }
}

/** @typedef {{ nodes: { id: string, pid: number | null, state: string }[], groups: { primary: string, secondary: string | null, serving: boolean, epoch: number }[] }} Status */
/** @returns {Status} */
function status() {
  /** @type {unknown} */
  const parsed = JSON.parse(tatami('status', '--json', '--data', data));
  return /** @type {Status} */ (parsed);
}
/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {string} what @param {() => boolean} holds */
async function until(what, holds) {
  const limit = Date.now() + ROUND_LIMIT_MS;
  while (!holds()) {
    if (Date.now() > limit) throw new Error(`not within ${ROUND_LIMIT_MS} ms: ${what}`);
    await sleep(100);
  }
}

/** @typedef {{ name: string, digest: string, startedMs: number, endedMs: number }} Acked */

/** @param {string} kind @param {string} where */
function startWriter(kind, where) {
  const child = fork(WRITER, [kind, where]);
  /** @type {Acked[]} */
  const acked = [];
  /** @type {string[]} */
  const failures = [];
  child.on('message', (message) => {
    const told = /** @type {Acked & { failed?: string }} */ (message);
    if (told.failed === undefined) acked.push(told);
    else failures.push(told.failed);
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  return { kind, acked, failures, ended, stop: () => child.connected && child.send('stop') };
}

/** @param {readonly number[]} sorted @param {number} share */
const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? NaN;

const inOrder = () => {
  const now = status();
  const [group] = now.groups;
  return group !== undefined && group.serving && group.secondary !== null && now.nodes.every((n) => n.state === 'up');
};

/** @type {string[]} */
const problems = [];
/** @type {number[]} */
const stalls = [];
let ackedCount = 0;
try {
  tatami('up', '--data', data, '--mount', mount, '--nodes', values.nodes, '--detach');
  await until('the cluster is in order', inOrder);
  const writers = [startWriter('mount', mount), startWriter('library', data)];
  await until('both write', () => writers.every((writer) => writer.acked.length > 20));
  for (let round = 1; round <= rounds; round++) {
    const before = status();
    const primary = before.groups[0]?.primary;
    const pid = before.nodes.find((node) => node.id === primary)?.pid;
    if (typeof pid !== 'number') throw new Error(`no process of the primary ${primary ?? ''}`);
    const killedMs = Date.now();
    process.kill(pid, 'SIGKILL');
    const nextOf = (/** @type {typeof writers[number]} */ writer) =>
      writer.acked.findLast((one) => one.endedMs > killedMs) && writer.acked.find((one) => one.startedMs > killedMs);
    await until('both write again', () => writers.every((w) => w.failures.length > 0 || nextOf(w) !== undefined));
    const stall = Math.max(...writers.map((writer) => (nextOf(writer)?.endedMs ?? Infinity) - killedMs));
    stalls.push(stall);
    const now = status().groups[0];
    console.error(
      `round ${round}: ${primary} killed, ${now?.primary ?? '?'} in epoch ${now?.epoch ?? '?'}; ${stall} ms`,
    );
    if (writers.some((writer) => writer.failures.length > 0)) break;
    tatami('up', '--data', data, '--mount', mount, '--detach');
    await until('the cluster is in order again', inOrder);
  }
  for (const writer of writers) writer.stop();
  await Promise.all(writers.map((writer) => writer.ended));
  problems.push(...writers.flatMap((writer) => writer.failures.map((text) => `refused: ${text}`)));
  const names = readdirSync(mount);
  for (const { acked } of writers) {
    for (const { name, digest } of acked) {
      ackedCount++;
      if (!names.includes(name)) problems.push(`lost: ${name}`);
      else if (
        createHash('sha256')
          .update(readFileSync(join(mount, name)))
          .digest('hex') !== digest
      )
        problems.push(`wrong bytes: ${name}`);
    }
  }
  if (new Set(names).size !== names.length) problems.push('a name is listed twice');
} finally {
  tatami('down', '--data', data);
  rmSync(folder, { recursive: true, force: true });
}
const sorted = [...stalls].sort((a, b) => a - b);
const result = {
  rounds: stalls.length,
  acknowledged: ackedCount,
  problems,
  stallMs: { median: quantile(sorted, 0.5), p99: quantile(sorted, 0.99), most: sorted.at(-1) },
};
if (values.json) console.log(JSON.stringify(result, undefined, 1));
else {
  console.log(`${result.rounds} kills of the primary, ${ackedCount} files acknowledged, ${problems.length} problems`);
  console.log(
    `writing stood still for: median ${result.stallMs.median} ms, p99 ${result.stallMs.p99} ms, most ${result.stallMs.most} ms`,
  );
  for (const problem of problems) console.log(`  ${problem}`);
}
if (problems.length > 0 || stalls.length < rounds) process.exitCode = 1;
