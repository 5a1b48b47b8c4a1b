/**
 * A file that programs on several machines write at random, a few bytes at a time, while their mounts and a third put it together again and
 * again, garbage is collected, and nodes crash: in the end it holds what was written last, everywhere.
 */
import { expect, it } from 'vitest';
import { COLLECT_EVERY_MIN_MS } from '../../src/catalog/collection.ts';
import type { Clock } from '../../src/env.ts';
import { hostOf } from '../../src/testing.ts';
import type { FileHandle } from '../../src/vfs/api.ts';
import { FileSystem } from '../../src/vfs/api.ts';
import { SIM_BLOCK_BYTES, SimCluster } from './cluster.ts';
import type { SimRandom } from './random.ts';

/** The writers have every other one, so that nobody writes what is another's. */
const CELL_BYTES = 700;
const CELLS = Math.floor((4 * SIM_BLOCK_BYTES) / CELL_BYTES);

/** SIM_SEEDS=100-199 looks further. */
function seeds(): number[] {
  const [first = 121, last = 122] = (process.env['SIM_SEEDS'] ?? '').split('-').filter(Boolean).map(Number);
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

class Writer {
  readonly done: Promise<void>;
  writeCount = 0;
  #stopped = false;

  constructor(file: FileHandle, clock: Clock, random: SimRandom, parity: number, content: Buffer) {
    this.done = this.#run(file, clock, random, parity, content);
  }

  stop(): void {
    this.#stopped = true;
  }

  async #run(file: FileHandle, clock: Clock, random: SimRandom, parity: number, content: Buffer): Promise<void> {
    while (!this.#stopped) {
      const cell = 2 * random.below(Math.floor(CELLS / 2)) + parity;
      const from = cell * CELL_BYTES + random.below(100);
      const piece = Buffer.from(random.bytes(1 + random.below(600)));
      piece.copy(content, from);
      await file.write(piece, 0, piece.length, from);
      if (random.chance(0.7)) await file.sync();
      this.writeCount += 1;
      if (random.chance(0.5)) await clock.sleep(random.between(0, 300));
    }
    await file.close();
  }
}

it.each(seeds())('no byte is lost and none comes back; seed %i', async (seed) => {
  const sim = await SimCluster.start({ seed, nodes: 4, copies: 2, collectEveryMs: COLLECT_EVERY_MIN_MS });
  const { random } = sim.world;
  const content = Buffer.from(random.bytes(4 * SIM_BLOCK_BYTES));
  const first = await sim.connect();
  await sim.settle(first.writeFile('/db', content, { flush: true }));
  const writers: Writer[] = [];
  const systems: FileSystem[] = [];
  for (const parity of [0, 1]) {
    const client = await sim.client();
    const { clock } = sim.world.envOf(hostOf(sim.latestClient));
    // Small pieces also as blocks of their own, and put together soon.
    const limits = { compactAfterMs: 500, inlineMaxBytes: parity * 400 };
    const fs = new FileSystem(client.openVfs(limits));
    systems.push(fs);
    const file = await sim.settle(fs.open('/db', 'r+'));
    writers.push(new Writer(file, clock, random.fork(`writer ${parity}`), parity, content));
  }
  const third = await sim.connect();
  const { clock } = sim.world.envOf(hostOf(sim.latestClient));
  let isOver = false;
  let compactedCount = 0;
  let changedCount = 0;
  const compacting = (async () => {
    while (!isOver) {
      const done = await third.compact('/db').catch(() => undefined);
      compactedCount += done?.savedCount ?? 0;
      changedCount += done?.changedCount ?? 0;
      await clock.sleep(random.between(50, 400));
    }
  })();
  for (let round = 0; round < 3; round++) {
    await sim.world.run(random.between(3_000, 9_000));
    const id = `n${1 + random.below(4)}`;
    sim.crash(id, { kind: random.chance(0.5) ? 'process' : 'power' });
    await sim.world.run(random.between(500, 12_000));
    await sim.restart(id);
  }
  for (const writer of writers) writer.stop();
  await sim.settle(Promise.all(writers.map(({ done }) => done)), { what: 'the writers', limitMs: 90_000 });
  isOver = true;
  await sim.settle(compacting, { what: 'the last compaction', limitMs: 90_000 });
  for (const { writeCount } of writers) expect(writeCount).toBeGreaterThan(20);
  expect(compactedCount + systems.reduce((sum, fs) => sum + fs.vfs.usage().compacted.savedCount, 0)).toBeGreaterThan(
    50,
  );
  for (const fs of [...systems, third, await sim.connect()]) {
    const seen = await sim.settle(fs.readFile('/db'), { what: 'reading', limitMs: 90_000 });
    expect(Buffer.compare(seen, content)).toBe(0);
  }
  await sim.world.run(3 * COLLECT_EVERY_MIN_MS);
  await sim.check(2);
  expect(Buffer.compare(await sim.settle((await sim.connect()).readFile('/db')), content)).toBe(0);
  // Somebody was in the way of it at times, else nothing was tried here.
  expect(changedCount + systems.reduce((sum, fs) => sum + fs.vfs.usage().compacted.changedCount, 0)).toBeGreaterThan(0);
  await sim.close();
});
