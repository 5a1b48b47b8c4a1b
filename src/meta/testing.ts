/** What the tests of this folder share. */
import type { Kv, KvOp, KvRange, KvRow } from '../env.ts';
import { keyFromBytes } from './keys.ts';
import { LocalMetaClient } from './local-client.ts';
import { MetaStore } from './meta-store.ts';
import type { Extent } from './types.ts';

export const OWNER = { uid: 1000, gid: 1000 };

export function bytes(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

export function inline(offset: number, data: Uint8Array): Extent {
  return { kind: 'inline', offset, lengthBytes: data.length, data };
}

/** A Kv in memory whose batches count as durable at once. */
export class TestKv implements Kv {
  readonly #rows = new Map<string, Uint8Array>();
  #sorted: string[] | undefined;
  /** Set to make the next batches fail. */
  batchError: Error | undefined;

  get(key: Uint8Array): Uint8Array | undefined {
    return this.#rows.get(keyFromBytes(key));
  }

  async batch(ops: readonly KvOp[]): Promise<void> {
    await Promise.resolve();
    if (this.batchError !== undefined) throw this.batchError;
    for (const { key, value } of ops) {
      if (value === undefined) this.#rows.delete(keyFromBytes(key));
      else this.#rows.set(keyFromBytes(key), Uint8Array.from(value));
    }
    this.#sorted = undefined;
  }

  async *scan(range: KvRange): AsyncGenerator<KvRow> {
    for await (const page of this.scanPages(range)) yield* page;
  }

  async *scanPages(range: KvRange): AsyncGenerator<readonly KvRow[]> {
    this.#sorted ??= [...this.#rows.keys()].sort();
    const gte = keyFromBytes(range.gte);
    const lt = keyFromBytes(range.lt);
    const keys = this.#sorted.filter((key) => key >= gte && key < lt);
    if (range.reverse === true) keys.reverse();
    const rows = keys.slice(0, range.limit).map((key) => [Buffer.from(key, 'latin1'), this.#rows.get(key)!] as const);
    await Promise.resolve();
    // One and then the rest, so that whoever reads more than a page is tested, too.
    for (const page of [rows.slice(0, 1), rows.slice(1)]) if (page.length > 0) yield page;
  }

  async close(): Promise<void> {}

  /** A copy, as a disk after a crash. */
  clone(): TestKv {
    const copy = new TestKv();
    for (const [key, value] of this.#rows) copy.#rows.set(key, value);
    return copy;
  }
}

/** A store on a new memory Kv, and a client whose clock goes on by a microsecond a command. */
export async function openLocal(
  kv: Kv = new TestKv(),
  overlayMaxBytes?: number,
): Promise<{ kv: Kv; store: MetaStore; client: LocalMetaClient }> {
  const store = await MetaStore.open({ kv, ...(overlayMaxBytes !== undefined && { overlayMaxBytes }) });
  let nowNs = 1_700_000_000_000_000_000n;
  const client = await LocalMetaClient.open({ store, wallNs: () => (nowNs += 1000n) });
  return { kv, store, client };
}

/** What the test's block `id` holds at `offset`: told by the id's first byte. */
export function patternByte(id: Uint8Array, offset: number): number {
  return (id[0]! * 31 + offset * 7 + 1) & 0xff;
}

/** The bytes that the extents give for a file of this size. */
export function contentOf(sizeBytes: number, extents: readonly Extent[]): Uint8Array {
  const data = new Uint8Array(sizeBytes);
  for (const extent of extents) {
    for (let i = 0; i < extent.lengthBytes; i++) {
      data[extent.offset + i] =
        extent.kind === 'inline' ? extent.data[i]! : patternByte(extent.id, extent.blockOffset + i);
    }
  }
  return data;
}
