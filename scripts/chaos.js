// @ts-check
/**
 * `npm run chaos -- [--rounds 50] [--nodes 5] [--json]`: kill -9 of the current primary, again and again, while a mount and
 * a program write. At the end every acknowledged file must be there, whole, once. Prints how long writing stood still.
 * Exit code 1 if anything was lost, doubled or refused.
 *
 * `npm run chaos -- --calm MINUTES`: the opposite. Nothing is killed; blocks and metadata keep all cores busy. Exit code 1
 * if any group changed its members: a fail-over for no reason, or a secondary that was dropped.
 *
 * `npm run chaos -- --churn MINUTES`: files change and go while garbage is collected, packs are rewritten and nodes are killed
 * (churn.js).
 */
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { calm } from './calm.js';
import { churn } from './churn.js';
import { ClusterUnderTest, quantile, startWriter, until } from './cluster-under-test.js';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '50' },
    nodes: { type: 'string', default: '5' },
    calm: { type: 'string' },
    churn: { type: 'string' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
});
const rounds = positive('rounds', values.rounds);
const nodes = positive('nodes', values.nodes);
const { json } = values;
if (values.calm !== undefined) await calm({ minutes: positive('calm', values.calm), nodes, json });
else if (values.churn !== undefined) {
  await churn({ minutes: positive('churn', values.churn), nodes, seed: positive('seed', values.seed), json });
} else await kill();

/** @param {string} name @param {string} text */
function positive(name, text) {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  console.error(`error: --${name} is a number above 0, not ${text}`);
  process.exit(2);
}

async function kill() {
  const cluster = new ClusterUnderTest();
  /** @type {string[]} */
  const problems = [];
  /** @type {number[]} */
  const stalls = [];
  let ackedCount = 0;
  try {
    cluster.up('--nodes', String(nodes));
    await cluster.inOrder('the cluster is in order');
    const writers = [startWriter('mount', cluster.mount), startWriter('library', cluster.data)];
    await until('both write', () => writers.every((writer) => writer.acked.length > 20));
    for (let round = 1; round <= rounds; round++) {
      const before = cluster.status();
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
      const now = cluster.status().groups[0];
      console.error(
        `round ${round}: ${primary} killed, ${now?.primary ?? '?'} in epoch ${now?.epoch ?? '?'}; ${stall} ms`,
      );
      if (writers.some((writer) => writer.failures.length > 0)) break;
      cluster.up();
      await cluster.inOrder('the cluster is in order again');
    }
    for (const writer of writers) writer.stop();
    await Promise.all(writers.map((writer) => writer.ended));
    problems.push(...writers.flatMap((writer) => writer.failures.map((text) => `refused: ${text}`)));
    const names = readdirSync(cluster.mount);
    for (const { acked } of writers) {
      for (const { name, digest } of acked) {
        ackedCount++;
        if (!names.includes(name)) problems.push(`lost: ${name}`);
        else if (
          createHash('sha256')
            .update(readFileSync(join(cluster.mount, name)))
            .digest('hex') !== digest
        )
          problems.push(`wrong bytes: ${name}`);
      }
    }
    if (new Set(names).size !== names.length) problems.push('a name is listed twice');
  } finally {
    cluster.destroy();
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
}
