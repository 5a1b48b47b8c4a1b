import { describe, expect, it } from 'vitest';
import { blockMethods } from '../blocks/block-messages.ts';
import { firstCatalog } from '../catalog/document.ts';
import { testNode } from '../catalog/testing.ts';
import type { Catalog } from '../catalog/types.ts';
import { FsError, PeerUnreachableError } from '../errors.ts';
import { blockIdToHex, type BlockId, type HistoryId, type NodeId } from '../ids.ts';
import type { MetaClient } from '../meta/types.ts';
import type { Network } from '../net/types.ts';
import { lossWithout } from './removal.ts';
import type { LossOptions } from './removal.ts';

const FILES = 1;
const LIBRARY = 2;
const idOf = (number: number): BlockId => {
  const id = new Uint8Array(32);
  new DataView(id.buffer).setUint32(0, number);
  return id as BlockId;
};
const numberOf = (id: BlockId): number => new DataView(id.buffer, id.byteOffset).getUint32(0);

/** Nodes by the numbers of the blocks that they hold, by pool. A node that is not named does not answer. */
type Held = Readonly<Record<string, Readonly<Record<number, readonly number[]>>>>;

interface Query {
  readonly op: 'allExtents' | 'paths';
  readonly ino: number;
  readonly afterIno: number;
  readonly afterOffset: number;
  readonly limit: number;
}

class Bench {
  /** Of files, in order of their inodes: which names which block. */
  extents: readonly (readonly [ino: number, block: number])[] = [];
  held: Held = {};
  gone = new Set<number>();
  pageCount = 0;
  readonly calls: { readonly node: string; readonly method: string; readonly count: number }[] = [];
  readonly catalog: Catalog;

  constructor(copies = 2, nodes = 3) {
    this.catalog = firstCatalog({
      clusterId: 'ab'.repeat(16),
      historyId: '1'.repeat(16) as HistoryId,
      nodes: Array.from({ length: nodes }, (_, index) => testNode(index + 1)),
      copies,
    });
  }

  lossWithout(id: string, more: Partial<LossOptions> = {}) {
    return lossWithout({
      network: { call: (...args: Parameters<Bench['call']>) => this.call(...args) } as unknown as Network,
      catalog: { current: () => this.catalog },
      meta: { query: (query: Query) => this.query(query) } as unknown as MetaClient,
      without: id as NodeId,
      ...more,
    });
  }

  call(
    node: string,
    method: string,
    header: { pool: number; ids?: BlockId[]; cursor?: string | null; limit?: number },
  ) {
    this.calls.push({ node, method, count: header.ids?.length ?? 0 });
    const held = this.held[node];
    if (held === undefined) return Promise.reject(new PeerUnreachableError(`${node} is down`));
    const numbers = held[header.pool] ?? [];
    if (method === blockMethods.has) {
      return Promise.resolve({
        header: { lengths: header.ids?.map((id) => (numbers.includes(numberOf(id)) ? 9 : null)) },
      });
    }
    const from = Number(header.cursor ?? 0);
    const to = from + Math.min(header.limit ?? 0, 2);
    const items = numbers.slice(from, to).map((number) => [idOf(number), 9, 0]);
    return Promise.resolve({ header: { items, cursor: to < numbers.length ? String(to) : null } });
  }

  query({ op, ino, afterIno, afterOffset, limit }: Query) {
    if (op === 'paths') {
      if (this.gone.has(ino)) return Promise.reject(new FsError('ENOENT'));
      return Promise.resolve({ paths: [Buffer.from(`/file-${ino}`)] });
    }
    this.pageCount++;
    const all = this.extents.map(([of, block], offset) => ({
      ino: of,
      extent: { kind: 'block', offset: offset + 1, lengthBytes: 9, pool: FILES, id: idOf(block), blockBytes: 9 },
    }));
    const left = all.filter((one) => one.ino > afterIno || (one.ino === afterIno && one.extent.offset > afterOffset));
    return Promise.resolve({ items: left.slice(0, limit), more: left.length > limit });
  }
}

describe('what is lost with a node', () => {
  it('is told, whatever is removed while it is looked for', async () => {
    const b = new Bench(2, 2);
    b.extents = [
      [2, 1],
      [3, 2],
    ];
    b.held = { n2: {} };
    b.gone.add(2);
    const loss = await b.lossWithout('n1');
    expect(loss).toMatchObject({ blockCount: 2, lostCount: 2, lostBytes: 18, lostFileCount: 2, silent: [] });
    expect(loss.paths.map(String)).toEqual(['/file-3']);
  });

  it('is what no other node has; one that cannot be asked is named', async () => {
    const b = new Bench();
    b.extents = [
      [2, 1],
      [3, 2],
      [3, 3],
    ];
    b.held = { n2: { [FILES]: [1, 2] } };
    expect(await b.lossWithout('n1')).toMatchObject({ lostCount: 1, lostFileCount: 1, silent: ['n3'] });
  });

  it('is counted once where files share it, and nothing is remembered of what others have', async () => {
    const b = new Bench(2, 2);
    // Pages of 1,000; the second file shares its blocks with the first.
    const count = 2_500;
    b.extents = [2, 3].flatMap((ino) => Array.from({ length: count }, (_, block) => [ino, block] as const));
    b.held = { n2: { [FILES]: Array.from({ length: count - 10 }, (_, block) => block) } };
    const looked: number[] = [];
    const loss = await b.lossWithout('n1', { onProgress: (blocks) => looked.push(blocks) });
    expect(loss).toMatchObject({ lostCount: 10, lostBytes: 90, lostFileCount: 2 });
    expect(b.pageCount).toBeGreaterThan(2);
    const asked = b.calls.filter(({ node, method }) => node === 'n2' && method === blockMethods.has);
    expect(asked.reduce((sum, call) => sum + call.count, 0)).toBe(2 * count);
    expect(looked.at(-1)).toBe(2 * count);
  });
});

describe("what is lost of programs' blocks", () => {
  it('is what no other has, if the node can be asked', async () => {
    const b = new Bench();
    b.held = { n1: { [LIBRARY]: [1, 2, 3, 4, 5] }, n2: { [LIBRARY]: [1, 4] }, n3: { [LIBRARY]: [2] } };
    expect(await b.lossWithout('n1')).toMatchObject({
      blockCount: 5,
      lostCount: 2,
      lostBytes: 18,
      lostFileCount: 0,
      ofPrograms: [{ pool: 'library', lostCount: 2, lostBytes: 18, isCounted: true }],
    });
  });

  it('is nothing where all of it is elsewhere', async () => {
    const b = new Bench();
    b.held = { n1: { [LIBRARY]: [1, 2] }, n2: { [LIBRARY]: [1] }, n3: { [LIBRARY]: [2] } };
    expect(await b.lossWithout('n1')).toMatchObject({ blockCount: 2, lostCount: 0, ofPrograms: [] });
  });

  it('is what others know to be damaged, and perhaps more, if the node cannot be asked', async () => {
    const b = new Bench();
    b.held = { n2: { [LIBRARY]: [1] }, n3: {} };
    const record = (pool: number, number: number, healed = false) => ({
      ...{ pool, id: blockIdToHex(idOf(number)), foundAtMs: 0, healed },
    });
    const damage = [
      record(LIBRARY, 7),
      record(LIBRARY, 7),
      record(LIBRARY, 1),
      record(LIBRARY, 8, true),
      record(FILES, 9),
    ];
    expect(await b.lossWithout('n1', { damage })).toMatchObject({
      lostCount: 1,
      ofPrograms: [{ pool: 'library', lostCount: 1, isCounted: false, keepsOne: false }],
    });
  });

  it.each([
    [
      'keeps one copy: then it is named though nobody knows',
      1,
      {},
      [{ lostCount: 0, isCounted: false, keepsOne: true }],
    ],
    [
      'keeps two and others have some of it',
      2,
      { [LIBRARY]: [1] },
      [{ lostCount: 0, isCounted: false, keepsOne: false }],
    ],
    ['keeps two and nobody has any of it', 2, {}, []],
  ])('cannot be counted if the node cannot be asked: a pool that %s', async (_, copies, n2, expected) => {
    const b = new Bench(copies);
    b.held = { n2, n3: {} };
    const { lostCount, ofPrograms } = await b.lossWithout('n1');
    expect(lostCount).toBe(0);
    expect(ofPrograms).toMatchObject(expected);
    expect(ofPrograms).toHaveLength(expected.length);
  });
});
