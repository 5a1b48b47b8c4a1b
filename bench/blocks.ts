/**
 * The block store as a library: blocks of 1 KiB, 256 KiB and 1 MiB put, read and deleted, by PackStore, ReplicatedStore
 * and TatamiBlockstore, against plain files and blockstore-fs. All in this process, one store after the other in each
 * round, each on new data in a new directory; what has been read or written is in the page cache for all.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { KiB, MiB } from '../src/limits.ts';
import {
  ipfsStores,
  packStore,
  plainFiles,
  replicatedStore,
  type Contender,
  type ContenderKind,
} from './block-stores.ts';
import { freshBytes } from './measure.ts';
import { pairRow } from './sequential.ts';
import type { BenchContext, Benchmark, Row } from './types.ts';

interface Workload {
  readonly name: string;
  readonly blockBytes: number;
  readonly count: number;
  /** Puts that wait for each other. */
  readonly singlePuts: number;
}

const WORKLOADS: readonly Workload[] = [
  { name: '1 KiB', blockBytes: KiB, count: 8_000, singlePuts: 200 },
  { name: '256 KiB', blockBytes: 256 * KiB, count: 384, singlePuts: 32 },
  { name: '1 MiB', blockBytes: MiB, count: 96, singlePuts: 16 },
];

const STEPS = ['put many', 'put one by one', 'get in order', 'get at random', 'getMany', 'delete'] as const;
type Step = (typeof STEPS)[number];
/** Per second: blocks for small ones, 10^6 bytes for large ones. */
type Speeds = Record<Step, number>;

/** Issue and design: durable small puts at 5 times what blockstore-fs does without syncing. */
const GOALS: Partial<Record<string, number>> = { 'put many 1 KiB': 5 };

export const blockStores: Benchmark = {
  name: 'blocks',
  about: 'the block stores as a library, blocks of 1 KiB to 1 MiB, against blockstore-fs and plain files',
  async run(context) {
    const ipfs = await ipfsStores();
    if (ipfs === undefined) {
      await context.note(
        'blocks: blockstore-fs is not installed, so only plain files stand against ours; for the rest: npm install blockstore-fs interface-store multiformats',
      );
    }
    const { dataDirectory } = context;
    if (dataDirectory === undefined) await context.note('blocks: ReplicatedStore needs --data DIR of a cluster here');
    const synced = plainFiles('synced');
    const unsynced = plainFiles('not synced');
    const replicated = dataDirectory === undefined ? undefined : replicatedStore(dataDirectory);
    const kinds = [packStore, unsynced, synced, ...(ipfs === undefined ? [] : [ipfs.ours, ipfs.theirs])];
    if (replicated !== undefined) kinds.push(replicated);
    const rows: Row[] = [];
    for (const workload of WORKLOADS) {
      const speeds = await measureAll(context, kinds, workload);
      const pair = (ours: ContenderKind, theirs: ContenderKind, steps: readonly Step[]): Row[] =>
        steps.map((step) => {
          const name = `${step} ${workload.name}`;
          const of = (kind: ContenderKind): number[] => (speeds.get(kind) ?? []).map((round) => round[step]);
          const goal =
            ours.durability === 'synced' && theirs === ipfs?.theirs && ours !== replicated ? GOALS[name] : undefined;
          const unit = workload.blockBytes < MiB / 8 ? '/s' : 'MB/s';
          return pairRow(
            `${name}, ${ours.name}`,
            of(ours),
            `${theirs.name}, ${theirs.durability}`,
            of(theirs),
            goal,
            unit,
          );
        });
      const changes = STEPS.filter((step) => !step.startsWith('get'));
      const reads = STEPS.filter((step) => step.startsWith('get'));
      rows.push(...pair(packStore, synced, changes), ...pair(packStore, unsynced, STEPS));
      if (ipfs !== undefined) rows.push(...pair(packStore, ipfs.theirs, STEPS), ...pair(ipfs.ours, ipfs.theirs, STEPS));
      if (replicated !== undefined) {
        rows.push(...pair(replicated, synced, changes));
        rows.push(...pair(replicated, ipfs?.theirs ?? unsynced, ipfs === undefined ? reads : STEPS));
      }
    }
    return rows;
  },
};

async function measureAll(
  context: BenchContext,
  kinds: readonly ContenderKind[],
  workload: Workload,
): Promise<Map<ContenderKind, Speeds[]>> {
  const speeds = new Map<ContenderKind, Speeds[]>(kinds.map((kind) => [kind, []]));
  // Nobody is measured while its JavaScript is being compiled.
  for (const kind of kinds) await measure(context, kind, { ...workload, count: Math.ceil(workload.count / 4) }, 0);
  for (let round = 1; round <= context.rounds; round++) {
    for (const kind of kinds) speeds.get(kind)?.push(await measure(context, kind, workload, round));
    await context.note(`blocks of ${workload.name}: round ${round} of ${context.rounds} done`);
  }
  return speeds;
}

async function measure(context: BenchContext, kind: ContenderKind, workload: Workload, round: number): Promise<Speeds> {
  const directory = join(context.workDirectory, `blocks-${round}`);
  const blocks = blocksOf(workload.blockBytes, workload.count);
  const singles = blocksOf(workload.blockBytes, workload.singlePuts);
  const store = await kind.open(directory);
  try {
    return await steps(store, workload, blocks, singles);
  } finally {
    await store.close();
    await rm(directory, { recursive: true, force: true });
  }
}

async function steps(
  store: Contender,
  { blockBytes, count }: Workload,
  blocks: readonly Uint8Array[],
  singles: readonly Uint8Array[],
): Promise<Speeds> {
  const inOrder = blocks.map((_, index) => index);
  const shuffled = inOrder.map((index) => (index * 7919) % count);
  const speed = async (done: number, work: () => Promise<unknown>): Promise<number> => {
    const started = performance.now();
    await work();
    const seconds = (performance.now() - started) / 1000;
    return (blockBytes < MiB / 8 ? done : (done * blockBytes) / 1e6) / seconds;
  };
  const oneByOne = async (indexes: readonly number[]): Promise<void> => {
    for (const index of indexes) check(await store.get(index), blockBytes);
  };
  return {
    'put many': await speed(count, () => store.putMany(blocks)),
    'put one by one': await speed(singles.length, async () => {
      for (const [index, block] of singles.entries()) await store.put(block, count + index);
    }),
    'get in order': await speed(count, () => oneByOne(inOrder)),
    'get at random': await speed(count, () => oneByOne(shuffled)),
    getMany: await speed(count, async () => check(await store.getMany(inOrder), count * blockBytes)),
    delete: await speed(count + singles.length, () =>
      store.deleteMany([...inOrder, ...singles.map((_, i) => count + i)]),
    ),
  };
}

function check(bytes: number, expected: number): void {
  if (bytes !== expected) throw new Error(`read ${bytes} bytes instead of ${expected}`);
}

/** All different, and different from those of any other call. */
function blocksOf(blockBytes: number, count: number): Uint8Array[] {
  const all = freshBytes(blockBytes * count);
  return Array.from({ length: count }, (_, index) => all.subarray(index * blockBytes, (index + 1) * blockBytes));
}
