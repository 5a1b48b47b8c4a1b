/**
 * Programs on several machines take turns with a file by its lock, while machines fail: each sees what the one before it
 * wrote, whatever becomes of primaries, networks and the programs themselves.
 */
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/env.ts';
import { SESSION_LEASE_MS } from '../../src/limits.ts';
import { hostOf } from '../../src/testing.ts';
import type { FileSystem } from '../../src/vfs/api.ts';
import { SimCluster } from './cluster.ts';
import type { SimRandom } from './random.ts';

const COUNTER = '/counter';
const DIGITS = 12;
/** A program has the lock for this long at most, were there no servers to wait for. */
const HELD_MS = 20;

/** Adds one to the counter again and again, each time under the lock. */
class Counting {
  /** What it wrote and was told to be committed, under the lock as far as it knows. */
  readonly written: number[] = [];
  /** Rounds that ended in an error: whether they have counted is not known. */
  unknownCount = 0;
  readonly errors = new Set<string>();
  readonly done: Promise<void>;
  #stopped = false;

  /** `pauseMs`: between two rounds, on average, so that long histories do not take long. */
  constructor(fs: FileSystem, clock: Clock, random: SimRandom, pauseMs: number) {
    this.done = this.#run(fs, clock, random, pauseMs);
    this.done.catch(() => undefined);
  }

  stop(): void {
    this.#stopped = true;
  }

  async #run(fs: FileSystem, clock: Clock, random: SimRandom, pauseMs: number): Promise<void> {
    while (!this.#stopped) {
      await clock.sleep(random.below(2 * pauseMs));
      let value: number | undefined;
      try {
        await using handle = await fs.open(COUNTER, 'r+');
        await handle.lock();
        value = Number((await handle.readBytes(0, DIGITS)).toString()) + 1;
        // Long enough for others to come in between, if they were let.
        await clock.sleep(random.below(HELD_MS));
        await handle.write(String(value).padStart(DIGITS, '0'), 0);
        await handle.flush();
        await handle.unlock();
        this.written.push(value);
      } catch (error) {
        // Before it has read nothing has happened.
        if (value !== undefined) this.unknownCount++;
        this.errors.add((error as { code?: string }).code ?? String(error));
      }
    }
  }
}

interface Scene {
  readonly sim: SimCluster;
  /** By the name of its machine. */
  readonly programs: Map<string, Counting>;
}

async function begin(seed: number, pauseMs = 50): Promise<Scene> {
  const sim = await SimCluster.start({ seed, nodes: 5 });
  const first = await sim.connect();
  await sim.settle(first.writeFile(COUNTER, '0'.repeat(DIGITS)));
  const programs = new Map<string, Counting>();
  for (let index = 0; index < 4; index++) {
    const fs = await sim.connect();
    const name = sim.latestClient;
    const { clock } = sim.world.envOf(hostOf(name));
    programs.set(name, new Counting(fs, clock, sim.world.random.fork(name), pauseMs));
  }
  await sim.world.run(2_000);
  return { sim, programs };
}

/** Nobody counted from the same number as another, and the file has what all together have counted. */
async function finish({ sim, programs }: Scene, gone: readonly string[] = []): Promise<void> {
  for (const program of programs.values()) program.stop();
  for (const [name, program] of programs) {
    if (!gone.includes(name)) await sim.settle(program.done, { what: `the program on ${name}`, limitMs: 200_000 });
  }
  const all = [...programs.values()];
  const written = all.flatMap((program) => program.written);
  expect(written.length).toBeGreaterThan(50);
  expect(new Set(written).size).toBe(written.length);
  const reader = await sim.connect();
  const value = Number(await sim.settle(reader.readFile(COUNTER, 'utf8')));
  expect(value).toBeGreaterThanOrEqual(written.length);
  // Who is gone may have been in the middle of one.
  const unknown = all.reduce((sum, program) => sum + program.unknownCount, gone.length);
  expect(value).toBeLessThanOrEqual(written.length + unknown);
  await sim.check();
  await sim.close();
}

async function failOver(sim: SimCluster, kind: 'process' | 'power'): Promise<void> {
  const { primary } = sim.group();
  sim.crash(primary, { kind });
  await sim.world.run(4_000);
  await sim.restart(primary);
  await sim.world.run(2_000);
}

describe('a counter under a lock', () => {
  it('counts right in peace, and everybody gets a turn', async () => {
    const scene = await begin(501);
    await scene.sim.world.run(4_000);
    const counts = [...scene.programs.values()].map(({ written }) => written.length);
    expect(Math.min(...counts)).toBeGreaterThan(Math.max(...counts) / 3);
    for (const program of scene.programs.values()) expect([...program.errors]).toEqual([]);
    await finish(scene);
  });

  it.each([
    ['is killed', 502, 'process'],
    ['loses its power', 503, 'power'],
  ] as const)('counts right when the primary %s, twice', async (_, seed, kind) => {
    const scene = await begin(seed);
    await failOver(scene.sim, kind);
    await failOver(scene.sim, kind);
    for (const program of scene.programs.values()) expect([...program.errors]).toEqual([]);
    await finish(scene);
  });

  it('goes on after the session of a machine that is gone has ended, and not before', async () => {
    const scene = await begin(504, 1_000);
    const { sim, programs } = scene;
    const [victim] = [...programs.keys()];
    // A killed program, perhaps with the lock in its hand: nobody gives it up for it.
    const lone = await sim.connect();
    const holder = sim.latestClient;
    await sim.settle(lone.writeFile('/other', 'x'));
    const handle = await sim.settle(lone.open('/other', 'r+'));
    await sim.settle(handle.lock());
    sim.crash(holder, { kind: 'power' });
    sim.crash(victim!, { kind: 'power' });
    const waiter = await sim.connect();
    const waiting = await sim.settle(waiter.open('/other', 'r+'));
    let granted = false;
    const lock = waiting.lock().then(() => (granted = true));
    await sim.world.run(SESSION_LEASE_MS / 2);
    expect(granted).toBe(false);
    await sim.settle(lock, { what: 'the lock of the one that is gone', limitMs: SESSION_LEASE_MS });
    await finish(scene, [victim!]);
  });

  it('is neither read nor written by a holder whose session has ended meanwhile', async () => {
    const sim = await SimCluster.start({ seed: 506, nodes: 3 });
    const holder = await sim.connect();
    const name = hostOf(sim.latestClient);
    const other = await sim.connect();
    await sim.settle(holder.writeFile(COUNTER, 'old'));
    const held = await sim.settle(holder.open(COUNTER, 'r+'));
    await sim.settle(held.lock());
    await sim.settle(held.write('never seen', 0));
    await sim.settle(holder.writeFile('/read', 'old'));
    const read = await sim.settle(holder.open('/read', 'r'));
    await sim.settle(read.lock({ shared: true }));
    expect((await sim.settle(read.readBytes(0, 3))).toString()).toBe('old');
    for (const id of sim.cluster.nodeIds) sim.world.network.partition(name, hostOf(id));
    const taken = await sim.settle(other.open(COUNTER, 'r+'));
    await sim.settle(taken.lock(), { limitMs: 2 * SESSION_LEASE_MS });
    await sim.settle(taken.write('new', 0));
    await sim.settle(taken.close());
    // Nor read: what it has kept is older than what the new holder has written.
    await expect(sim.settle(read.readBytes(0, 3), { limitMs: 1 })).rejects.toMatchObject({ code: 'EIO' });
    sim.world.network.heal();
    await sim.world.run(SESSION_LEASE_MS);
    await expect(sim.settle(held.write('never seen', 0))).rejects.toMatchObject({ code: 'EIO' });
    await expect(sim.settle(held.lock())).rejects.toMatchObject({ code: 'EIO' });
    await sim.settle(held.close().catch(() => undefined));
    await sim.settle(read.close());
    expect(await sim.settle(holder.readFile(COUNTER, 'utf8'))).toBe('new');
    // Opened anew, all is as for anybody.
    const anew = await sim.settle(holder.open(COUNTER, 'r+'));
    await sim.settle(anew.lock());
    await sim.settle(anew.write('own', 0));
    await sim.settle(anew.close());
    expect(await sim.settle(other.readFile(COUNTER, 'utf8'))).toBe('own');
    await sim.close();
  });

  it('counts right when a machine is cut off for longer than its session lasts, and comes back', async () => {
    const scene = await begin(505, 1_000);
    const { sim, programs } = scene;
    const [victim] = [...programs.keys()];
    for (const id of sim.cluster.nodeIds) sim.world.network.partition(hostOf(victim!), hostOf(id));
    await sim.world.run(SESSION_LEASE_MS * 1.5);
    sim.world.network.heal();
    await sim.world.run(10_000);
    const before = programs.get(victim!)!.written.length;
    await sim.world.run(10_000);
    expect(programs.get(victim!)!.written.length).toBeGreaterThan(before);
    await finish(scene);
  });
});
