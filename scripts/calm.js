// @ts-check
/** The calm side of `npm run chaos`: full load, no failure. */
import { ClusterUnderTest, sleep, startWriter, until } from './cluster-under-test.js';

/** Deleted data is given back this often, so that the disk is not filled. */
const GC_INTERVAL_MS = 60_000;
/** The members are looked at this often. */
const LOOK_INTERVAL_MS = 5_000;

/** @param {{ minutes: number, nodes: number, json: boolean }} options */
export async function calm({ minutes, nodes, json }) {
  const cluster = new ClusterUnderTest();
  /** @type {string[]} */
  const problems = [];
  /** @type {Record<string, number>} */
  const done = {};
  /** @type {Record<string, number | null>} */
  const pausesMs = {};
  try {
    cluster.up('--nodes', String(nodes));
    await cluster.inOrder('the cluster is in order');
    const began = describe(cluster.status());
    const writers = [
      startWriter('mount', cluster.mount),
      startWriter('blocks', cluster.data),
      startWriter('stream', cluster.mount),
      startWriter('metadata', cluster.data),
    ];
    await until('all are at work', () => writers.every((writer) => writer.acked.length + writer.count() > 20));
    const endMs = Date.now() + minutes * 60_000;
    for (let nextGcMs = Date.now() + GC_INTERVAL_MS; Date.now() < endMs;) {
      await sleep(Math.min(LOOK_INTERVAL_MS, endMs - Date.now()));
      const now = describe(cluster.status());
      if (now !== began && !problems.includes(now)) {
        problems.push(now);
        console.error(`${new Date().toISOString()} ${now}`);
      }
      if (writers.some((writer) => writer.failures.length > 0)) break;
      if (Date.now() < nextGcMs) continue;
      nextGcMs = Date.now() + GC_INTERVAL_MS;
      cluster.tatami('gc', '--data', cluster.data);
    }
    for (const writer of writers) {
      writer.stop();
      problems.push(...writer.failures.map((text) => `refused: ${text}`));
      done[writer.kind] = writer.acked.length + writer.count();
    }
    await Promise.all(writers.map((writer) => writer.ended));
    for (const node of cluster.status().nodes) pausesMs[node.id] = node.longestPauseMs;
  } finally {
    cluster.destroy();
  }
  const result = { minutes, nodes, done, pausesMs, problems };
  if (json) console.log(JSON.stringify(result, undefined, 1));
  else {
    const work = Object.entries(done).map(([kind, count]) => `${kind} ${count}`);
    console.log(`${minutes} minutes of full load on ${nodes} nodes (${work.join(', ')}): ${problems.length} problems`);
    const pauses = Object.entries(pausesMs).map(([node, ms]) => `${node} ${ms ?? '?'} ms`);
    console.log(`longest that a node's process did nothing: ${pauses.join(', ')}`);
    for (const problem of problems) console.log(`  ${problem}`);
  }
  if (problems.length > 0) process.exitCode = 1;
}

/** @param {import('./cluster-under-test.js').Status} status */
function describe({ groups }) {
  return groups.map((g) => `primary ${g.primary}, secondary ${g.secondary ?? 'none'}, epoch ${g.epoch}`).join('; ');
}
