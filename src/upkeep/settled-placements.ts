/** With which placement of each pool repair has finished on this node. On disk: keys `r...` of the Kv. */
import type { Pool } from '../catalog/types.ts';
import type { Kv } from '../env.ts';
import { FormatError } from '../errors.ts';
import type { PoolId } from '../ids.ts';

const KEY_PREFIX = 0x72;
const VALUE_VERSION = 1;

export class SettledPlacements {
  readonly #kv: Kv;
  readonly #epochs = new Map<PoolId, number>();

  /** The caller closes the Kv. */
  constructor(kv: Kv) {
    this.#kv = kv;
  }

  async load(): Promise<void> {
    const range = { gte: Uint8Array.of(KEY_PREFIX), lt: Uint8Array.of(KEY_PREFIX + 1) };
    for await (const [key, value] of this.#kv.scan(range)) this.#epochs.set(...decode(key, value));
  }

  /** The pool's `placementEpoch` then; 0: never. */
  epochOf(pool: PoolId): number {
    return this.#epochs.get(pool) ?? 0;
  }

  has(pool: Pool): boolean {
    return this.epochOf(pool.id) >= pool.placementEpoch;
  }

  /** Durable on return. */
  async settle({ id, placementEpoch }: Pool): Promise<void> {
    await this.#kv.batch([encode(id, placementEpoch)], { sync: true });
    this.#epochs.set(id, placementEpoch);
  }
}

function encode(pool: PoolId, epoch: number): { key: Uint8Array; value: Uint8Array } {
  const key = new Uint8Array(5);
  key[0] = KEY_PREFIX;
  new DataView(key.buffer).setUint32(1, pool);
  const value = new Uint8Array(9);
  value[0] = VALUE_VERSION;
  new DataView(value.buffer).setFloat64(1, epoch);
  return { key, value };
}

function decode(key: Uint8Array, value: Uint8Array): [PoolId, number] {
  if (key.length !== 5 || value.length !== 9 || value[0] !== VALUE_VERSION) {
    throw new FormatError('what repair has settled is written in another format', {
      remedy: 'Use the newer version of tatamifs that wrote it.',
    });
  }
  const pool = new DataView(key.buffer, key.byteOffset).getUint32(1) as PoolId;
  return [pool, new DataView(value.buffer, value.byteOffset).getFloat64(1)];
}
