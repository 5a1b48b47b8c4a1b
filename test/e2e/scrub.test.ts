/**
 * Random bit flips over packs and index of one node, at rest and while it runs: reads never give a wrong byte, a scrub
 * finds and mends whatever hit live data, and tells of it by path. FLIPS=1000 FLIP_SEED=7 tries more, and others.
 */
import { createCipheriv, createHash } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { TestCluster, mustTatami, shell, startTatami, tatami, waitUntil } from './support.ts';

const FLIPS = Number(process.env['FLIPS'] ?? 200);
const SEED = Number(process.env['FLIP_SEED'] ?? 1);
/** Of the flips. By their size alone the index would get none. */
const INDEX_SHARE = 0.2;

interface ScrubJson {
  readonly nodes: readonly {
    readonly node: string;
    readonly reason?: string;
    readonly summary?: { readonly blockCount: number; readonly foundCount: number; readonly healedCount: number };
  }[];
  readonly damage: readonly {
    readonly healed: boolean;
    readonly uses: readonly { readonly paths: readonly string[] }[];
  }[];
}

interface Scrub {
  readonly running: { readonly id: number; readonly doneBytes: number } | null;
  readonly finished: readonly { readonly id: number }[];
}

/** The same for the same seed, on every machine. */
function randomOf(seed: string): (bound: number) => number {
  let count = 0;
  return (bound) => createHash('sha256').update(`${seed} ${count++}`).digest().readUIntBE(0, 6) % bound;
}

describe(`${FLIPS} flipped bits`, () => {
  let cluster: TestCluster;
  const files = new Map<string, string>();
  const blocks = (): string => join(cluster.data, 'nodes', 'n1', 'blocks');

  beforeAll(async () => {
    cluster = await TestCluster.start({ nodes: 3, copies: 2 });
    const random = randomOf(`sizes ${SEED}`);
    await shell(`mkdir -p ${cluster.mount}/some/where`);
    for (let n = 0; n < 160; n++) {
      const name = n % 2 === 0 ? `file-${n}` : `some/where/file-${n}`;
      const size = n < 12 ? 2_000_000 + random(6_000_000) : 17_000 + random(n % 5 === 0 ? 400_000 : 60_000);
      const data = pseudoRandom(`${SEED} ${n}`, size);
      writeFileSync(join(cluster.mount, name), data);
      files.set(name, createHash('sha256').update(data).digest('hex'));
    }
    // Some is deleted, so that there are tombstones and data that nobody wants.
    for (const name of [...files.keys()].filter((_, index) => index % 13 === 12)) {
      await shell(`rm ${join(cluster.mount, name)}`);
      files.delete(name);
    }
    await mustTatami(['gc', '--data', cluster.data]);
    await cluster.waitFor('all copies are made', (now) => now.nodes.every((node) => node.handoffCount === 0));
  });
  afterAll(() => cluster.destroy());

  function flip(count: number, seed: string): void {
    const random = randomOf(seed);
    const packs = filesBelow(join(blocks(), 'packs'));
    const index = readdirSync(blocks())
      .filter((name) => name.startsWith('index'))
      .flatMap((name) => filesBelow(join(blocks(), name)))
      .filter((path) => /\.(ldb|log)$|MANIFEST|CURRENT/.test(path));
    for (let n = 0; n < count; n++) {
      const among = n < count * INDEX_SHARE && index.length > 0 ? index : packs;
      let at = random(among.reduce((sum, path) => sum + statSync(path).size, 0));
      for (const path of among) {
        const { size } = statSync(path);
        if (at < size) {
          flipBit(path, at, random(8));
          break;
        }
        at -= size;
      }
    }
  }

  function readAll(): string[] {
    return [...files]
      .filter(([name, digest]) => {
        const data = readFileSync(join(cluster.mount, name));
        return createHash('sha256').update(data).digest('hex') !== digest;
      })
      .map(([name]) => name);
  }

  async function scrubbed(): Promise<ScrubJson> {
    const ran = await tatami(['scrub', '--now', '--wait', '--node', 'n1', '--json', '--data', cluster.data]);
    if (ran.code !== 0) throw new Error(`scrub ended with ${ran.code}\n${ran.stdout}\n${ran.stderr}`);
    return JSON.parse(ran.stdout) as ScrubJson;
  }

  /** What is left when all is mended: nothing for a second scrub to find, nothing for fsck, every byte right. */
  async function allIsWell(): Promise<void> {
    const again = await scrubbed();
    expect(again.nodes[0]?.summary).toMatchObject({ foundCount: 0 });
    expect(again.damage).toEqual([]);
    const checked = await tatami(['fsck', '--json', '--data', cluster.data]);
    const { troubles } = JSON.parse(checked.stdout) as { troubles: readonly { kind: string }[] };
    expect(troubles.filter(({ kind }) => kind !== 'mended-copy' && kind !== 'orphaned')).toEqual([]);
    expect(checked.code).toBe(0);
    await cluster.restartCold();
    expect(readAll()).toEqual([]);
    const status = await cluster.status();
    expect(status.health, await cluster.logs()).toBe('healthy');
  }

  it('at rest', async () => {
    await cluster.down();
    flip(FLIPS, `rest ${SEED}`);
    await cluster.up();
    const scrubbing = scrubbed();
    expect(readAll()).toEqual([]);
    const first = await scrubbing;
    const { summary } = first.nodes[0] ?? {};
    expect(summary?.blockCount).toBeGreaterThan(10);
    expect(summary?.healedCount).toBe(summary?.foundCount);
    expect(first.damage.length).toBeGreaterThan(10);
    expect(first.damage.every((one) => one.healed)).toBe(true);
    const named = first.damage.flatMap((one) => one.uses.flatMap((use) => use.paths));
    expect(named.length).toBeGreaterThan(10);
    for (const path of named) expect([...files.keys()]).toContain(path.slice(1));
    // A restart does not hide it.
    await cluster.restartCold();
    const recorded = await mustTatami(['damage', '--data', cluster.data]);
    for (const path of new Set(named)) expect(recorded).toContain(path);
    await allIsWell();
  });

  it('while the node runs, the index too', async () => {
    await cluster.restartCold();
    for (let round = 0; round < 4; round++) {
      flip(Math.ceil(FLIPS / 4), `running ${round} ${SEED}`);
      expect(readAll()).toEqual([]);
      // LevelDB can end a process that reads a damaged table. Then it looks at its files when it is started again.
      await cluster.up();
    }
    const first = await scrubbed().catch(async (error: unknown) => {
      if ((await cluster.status()).nodes.every((node) => node.state === 'up')) throw error;
      await cluster.up();
      return scrubbed();
    });
    expect(first.damage.every((one) => one.healed)).toBe(true);
    await allIsWell();
  });
});

describe('tatami scrub', () => {
  let cluster: TestCluster;
  beforeEach(async () => {
    cluster = await TestCluster.start({ nodes: 2, copies: 2 });
    writeFileSync(join(cluster.mount, 'data'), pseudoRandom('data', 40_000_000));
  });
  afterEach(() => cluster.destroy());

  it('goes on at the nodes when Ctrl-C ends the waiting, and after a kill -9 where it was', async () => {
    // Forty seconds at least, however fast the machine.
    await mustTatami(['scrub', '--rate-mib', '1', '--data', cluster.data]);
    const waiting = startTatami(['scrub', '--now', '--wait', '--data', cluster.data]);
    /** The pass of n2, running or ended. */
    const pass = async (): Promise<{ id: number; doneBytes: number } | undefined> => {
      const { nodes } = (await cluster.status()) as unknown as {
        nodes: readonly { id: string; scrub: Scrub | null }[];
      };
      const { running = null, finished = [] } = nodes.find(({ id }) => id === 'n2')?.scrub ?? {};
      const [ended] = finished;
      return running ?? (ended === undefined ? undefined : { id: ended.id, doneBytes: Infinity });
    };
    await waitUntil('it runs', async () => ((await pass())?.doneBytes ?? 0) > 0);
    waiting.child.kill('SIGINT');
    expect(await waiting.ended).toBe(130);
    expect(waiting.output.stderr).toContain('goes on at the nodes');
    const before = await pass();
    await cluster.kill('n2');
    await cluster.up();
    const after = await pass();
    expect(after?.id).toBe(before?.id);
    expect(after?.doneBytes).toBeGreaterThanOrEqual(before?.doneBytes ?? Infinity);
    await mustTatami(['scrub', '--rate-mib', '1024', '--data', cluster.data]);
    await mustTatami(['scrub', '--wait', '--data', cluster.data]);
    const shown = await mustTatami(['scrub', '--data', cluster.data]);
    expect(shown).toMatch(/n1 .*(ago|just now)/);
    expect(shown).toMatch(/n2 .*(ago|just now)/);
    expect(shown).toContain('1 GiB/s');
  });
});

function pseudoRandom(seed: string, length: number): Buffer {
  const key = createHash('sha256').update(seed).digest();
  return createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16)).update(Buffer.alloc(length));
}

function flipBit(path: string, at: number, bit: number): void {
  const fd = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  writeSync(fd, Buffer.of((byte[0] ?? 0) ^ (1 << bit)), 0, 1, at);
  fsyncSync(fd);
  closeSync(fd);
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path).isFile() && statSync(path).size > 0)
    .sort();
}
