/**
 * What applying metadata commands costs on one core, without log, replication or network: the commands are encoded
 * beforehand, as they come from the log. Over LevelDB in a scratch directory, flushes included.
 *
 *   meta-apply.ts [count] [overlay MiB: a large one leaves the flushes out]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT_INO, type Ino, type Seq, type SessionId } from '../src/ids.ts';
import { MiB } from '../src/limits.ts';
import { openLevelKv } from '../src/env-node/kv.ts';
import { encodeCommand, type Command } from '../src/meta/commands.ts';
import { MetaStore } from '../src/meta/meta-store.ts';
import type { Mutation } from '../src/meta/types.ts';

const count = Number(process.argv[2] ?? 50_000);
const BATCH_COUNT = 100;
const directory = mkdtempSync(join(tmpdir(), 'tatamifs-bench-'));
const session = '0123456789abcdef0123456789abcdef' as SessionId;

const kv = await openLevelKv(directory, {});
const overlayMaxBytes = Number(process.argv[3] ?? 8) * MiB;
const store = await MetaStore.open({ kv, overlayMaxBytes });
let seq = 0;
let requestId = 0;

async function run(name: string, mutations: readonly Mutation[]): Promise<void> {
  const entries = mutations.map((mutation) => {
    requestId++;
    const command: Command = {
      kind: 'client',
      session,
      requestId,
      ackedBelow: Math.max(1, requestId - 16),
      nowNs: BigInt(requestId),
      mutation,
    };
    return { seq: ++seq as Seq, command: encodeCommand(command) };
  });
  let refused = 0;
  let waits = 0;
  let longestMs = 0;
  const start = performance.now();
  const cpuStart = process.cpuUsage();
  for (let at = 0; at < entries.length; at += BATCH_COUNT) {
    const from = performance.now();
    const pending = store.apply(entries.slice(at, at + BATCH_COUNT), (_seq, outcome) => {
      if (!outcome.ok) refused++;
    });
    longestMs = Math.max(longestMs, performance.now() - from);
    if (pending !== undefined) {
      waits++;
      await pending;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  const appliedMs = performance.now() - start;
  const cpu = process.cpuUsage(cpuStart);
  const cpuUs = (cpu.user + cpu.system) / entries.length;
  await store.flush();
  const totalMs = performance.now() - start;
  const perSecond = Math.round((entries.length / appliedMs) * 1000);
  console.log(
    `${name.padEnd(28)} ${String(perSecond).padStart(8)}/s  ${((appliedMs * 1000) / entries.length).toFixed(1)} us each (processor ${cpuUs.toFixed(1)} us, all threads), ` +
      `flushed after ${totalMs.toFixed(0)} ms, longest batch ${longestMs.toFixed(1)} ms, waits ${waits}, refused ${refused}`,
  );
}

const name = (number: number): Uint8Array => Buffer.from(`file-${number.toString().padStart(8, '0')}.txt`);
const owner = { uid: 1000, gid: 1000 };
const all = Array.from({ length: count }, (_, number) => number);

try {
  await store.apply([
    { seq: ++seq as Seq, command: { kind: 'openSession', session, nowNs: 1n, leaseMs: 60_000, label: 'bench' } },
  ]);
  const makes = all.map((n): Mutation => ({
    op: 'make',
    parent: ROOT_INO,
    name: name(n),
    type: 'file',
    mode: 0o644,
    owner,
    rdev: 0,
    exclusive: true,
  }));
  await run('create (one directory)', makes);
  const inos: Ino[] = [];
  for (const n of all)
    inos.push((await store.query<'lookup'>({ op: 'lookup', parent: ROOT_INO, name: name(n) })).attr.ino);
  const data = Buffer.alloc(4096, 7);
  await run(
    'commit 4 KiB inline',
    inos.map((ino): Mutation => ({
      op: 'commit',
      ino,
      extents: [{ kind: 'inline', offset: 0, lengthBytes: data.length, data }],
      growToBytes: data.length,
      mtimeNs: 'now',
    })),
  );
  await run(
    'setattr',
    inos.map((ino): Mutation => ({ op: 'setattr', ino, set: { mode: 0o600 } })),
  );
  const big = inos[0]!;
  const id = Buffer.alloc(32, 9) as Uint8Array as never;
  await run(
    'append block',
    all.map((n): Mutation => ({
      op: 'commit',
      ino: big,
      extents: [
        {
          kind: 'block',
          offset: (n + 1) * 65_536,
          lengthBytes: 65_536,
          pool: 1 as never,
          id,
          blockOffset: 0,
          blockBytes: 65_536,
        },
      ],
      growToBytes: 0,
      generation: 0,
      mtimeNs: 'now',
    })),
  );
  await run(
    'overwrite same block',
    all.map((n): Mutation => ({
      op: 'commit',
      ino: big,
      extents: [
        {
          kind: 'block',
          offset: (((n * 7919) % count) + 1) * 65_536,
          lengthBytes: 65_536,
          pool: 1 as never,
          id,
          blockOffset: 0,
          blockBytes: 65_536,
        },
      ],
      growToBytes: 0,
      generation: 0,
      mtimeNs: 'now',
    })),
  );
  const few = Math.min(count, 5000);
  await run(
    'overwrite inside blocks',
    all.slice(0, few).map((n): Mutation => ({
      op: 'commit',
      ino: big,
      extents: [
        {
          kind: 'block',
          offset: (((n * 7919) % count) + 1) * 65_536 + 4096,
          lengthBytes: 4096,
          pool: 1 as never,
          id,
          blockOffset: 0,
          blockBytes: 4096,
        },
      ],
      growToBytes: 0,
      generation: 0,
      mtimeNs: 'now',
    })),
  );
  await run(
    'rename',
    all.map((n): Mutation => ({
      op: 'rename',
      parent: ROOT_INO,
      name: name(n),
      newParent: ROOT_INO,
      newName: Buffer.concat([name(n), name(n)]),
      noReplace: false,
      exchange: false,
      keepOpen: false,
    })),
  );
  const queryStart = performance.now();
  for (const n of all)
    void store.query<'lookup'>({ op: 'lookup', parent: ROOT_INO, name: Buffer.concat([name(n), name(n)]) });
  console.log(`lookup                       ${Math.round((count / (performance.now() - queryStart)) * 1000)}/s`);
  let after: Uint8Array = new Uint8Array(0);
  const listStart = performance.now();
  for (let more = true; more;) {
    const page = await store.query<'readdir'>({ op: 'readdir', ino: ROOT_INO, after, limit: 512, withAttrs: true });
    more = page.more;
    after = page.entries.at(-1)!.name;
  }
  console.log(`readdir with attributes      ${Math.round((count / (performance.now() - listStart)) * 1000)} entries/s`);
  await run(
    'unlink',
    all.map((n): Mutation => ({
      op: 'unlink',
      parent: ROOT_INO,
      name: Buffer.concat([name(n), name(n)]),
      keepOpen: false,
    })),
  );
  const reclaimStart = performance.now();
  for (let command = store.reclaimCommand(); command !== undefined; command = store.reclaimCommand()) {
    await store.apply([{ seq: ++seq as Seq, command }]);
  }
  console.log(`reclaim of the big file      ${(performance.now() - reclaimStart).toFixed(0)} ms`);
  await store.close();
} finally {
  await kv.close();
  rmSync(directory, { recursive: true });
}
