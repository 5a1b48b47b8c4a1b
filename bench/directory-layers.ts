/**
 * What an entry of a large directory costs in the layers that could depend on its size: metadata table (over LevelDB in a scratch
 * directory) and vfs, in one process, without kernel, log, replication or network, which cost the same for each request. In
 * processor time of all threads, so that it says something on a busy machine, too. For developers.
 *
 *   directory-layers.ts [largest count: 1000000]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BlockClient } from '../src/blocks/types.ts';
import type { Catalog } from '../src/catalog/types.ts';
import { createNodeEnv } from '../src/env-node.ts';
import { openLevelKv } from '../src/env-node/kv.ts';
import type { Kv } from '../src/env.ts';
import { ROOT_INO, type Ino } from '../src/ids.ts';
import { ATTR_TIMEOUT_MS, MiB } from '../src/limits.ts';
import { LocalMetaClient } from '../src/meta/local-client.ts';
import { MetaStore } from '../src/meta/meta-store.ts';
import type { MetaClient } from '../src/meta/types.ts';
import type { Caller } from '../src/vfs/ops.ts';
import { Vfs } from '../src/vfs/vfs.ts';

const largest = Number(process.argv[2] ?? 1_000_000);
const caller: Caller = { uid: 0, gid: 0, pid: 1 };
const IN_FLIGHT = 64;
const LISTED_AT_ONCE = 400;
const LOOKUPS = 10_000;
const LOOKUP_STEP = 611_953;
/** As a member of a group has it. */
const OVERLAY_MAX_BYTES = 32 * MiB;
const nameOf = (index: number): Buffer => Buffer.from(`file-${index}`);

/** Counts rows of the store that are read. */
function counting(kv: Kv): { readonly kv: Kv; readonly read: { gets: number; scanned: number } } {
  const read = { gets: 0, scanned: 0 };
  return {
    read,
    kv: {
      get: (key) => (read.gets++, kv.get(key)),
      batch: (ops, options) => kv.batch(ops, options),
      async *scan(range) {
        for await (const row of kv.scan(range)) {
          read.scanned++;
          yield row;
        }
      },
      async *scanPages(range) {
        for await (const page of kv.scanPages(range)) {
          read.scanned += page.length;
          yield page;
        }
      },
      close: () => kv.close(),
    },
  };
}

async function measure(count: number, quiet = false): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'tatamifs-bench-'));
  const { kv, read } = counting(await openLevelKv(scratch, {}));
  const env = createNodeEnv();
  try {
    const store = await MetaStore.open({ kv, overlayMaxBytes: OVERLAY_MAX_BYTES });
    const open = () =>
      LocalMetaClient.open({
        store,
        wallNs: () => env.clock.wallNs(),
        sessionId: 'a'.repeat(32) as LocalMetaClient['sessionId'],
      });
    const meta = await open();
    let questions = 0;
    const asking: MetaClient['query'] = meta.query.bind(meta);
    meta.query = (query, options) => {
      questions++;
      return asking(query, options);
    };
    const catalog = { pools: [{ id: 1, name: 'files', blockSizeBytes: 4 * MiB }] } as unknown as Catalog;
    const vfs = new Vfs({
      meta,
      blocks: { close: async () => undefined } as unknown as BlockClient,
      catalog: { current: () => catalog, lookForNewer: async () => undefined },
      env,
      space: async () => ({ totalBytes: 0, freeBytes: 0 }),
    });
    const step = async (what: string, entries: number, work: () => Promise<unknown>): Promise<void> => {
      await sleep(1.1 * ATTR_TIMEOUT_MS);
      questions = read.gets = read.scanned = 0;
      const [startMs, cpuStart] = [performance.now(), process.cpuUsage()];
      await work();
      const ms = performance.now() - startMs;
      const cpu = process.cpuUsage(cpuStart);
      const each = (value: number, digits = 2) => (value / entries).toFixed(digits);
      if (quiet) return;
      console.log(
        `${String(count).padStart(8)}  ${what.padEnd(34)} ${each(cpu.user + cpu.system, 1).padStart(7)} us of processor time, ` +
          `${((entries * 1000) / ms).toFixed(0).padStart(6)}/s, ${each(questions)} questions, ` +
          `${each(read.gets)} point reads and ${each(read.scanned)} rows scanned in the store; resident ${(process.memoryUsage.rss() / MiB).toFixed(0)} MiB`,
      );
    };
    const directory = (await vfs.mkdir(caller, ROOT_INO, Buffer.from('d'), 0o755)).attr.ino;
    const make = (index: number) => vfs.mknod(caller, directory, nameOf(index), 'file', 0o644, 0);
    const inFlight = async (from: number, to: number, work: (index: number) => unknown) => {
      let next = from;
      const worker = async () => {
        while (next < to) await work(next++);
      };
      await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
    };
    const tenth = Math.floor(count / 10);
    await inFlight(0, count - tenth, make);
    await step('create, last tenth', tenth, () => inFlight(count - tenth, count, make));
    await step('list with attributes', count, async () => {
      const { handle } = await vfs.opendir(caller, directory);
      let [offset, told] = [0, -2];
      for (;;) {
        const items = await vfs.readdir(caller, handle, offset, LISTED_AT_ONCE, true);
        told += items.length;
        const last = items.at(-1);
        if (last === undefined) break;
        offset = last.nextOffset;
        await new Promise((resolve) => setImmediate(resolve));
      }
      vfs.releasedir(handle);
      if (told !== count) throw new Error(`${told} of ${count} names were told`);
    });
    await step('look up at random', LOOKUPS, async () => {
      for (let done = 0, index = 0; done < LOOKUPS; done++, index = (index + LOOKUP_STEP) % count) {
        await vfs.lookup(caller, directory, nameOf(index));
      }
    });
    const inOrder = async (work: (index: number) => Promise<unknown>) => {
      for (let index = 0; index < count; index++) {
        await work(index);
        // As requests of the kernel: one turn of the event loop each.
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const lookup = async (index: number): Promise<Ino> => (await vfs.lookup(caller, directory, nameOf(index))).attr.ino;
    await step('look up as du does', count, () => inOrder(lookup));
    await step('look up and unlink as rm does', count, () =>
      inOrder(async (index) => {
        await lookup(index);
        await vfs.unlink(caller, directory, nameOf(index));
      }),
    );
    await vfs.close();
    await store.flush();
  } finally {
    await kv.close();
    rmSync(scratch, { recursive: true, force: true });
  }
}

await measure(20_000, true);
for (let count = 1_000; count <= largest; count *= 10) await measure(count);
