/**
 * What a node remembers of damaged copies: found when and how, mended or not. On disk, so that a restart (often the
 * first thing that is tried) does not hide that a disk is failing.
 *
 * Key: 'd', pool (4 bytes, big-endian), id. Value: version, then JSON. A row that cannot be read is dropped: what it told
 * of is found again, or was mended.
 */
import type { Clock, Kv } from '../env.ts';
import { asBlockId, BLOCK_ID_BYTES, blockIdToHex, type BlockId, type NodeId, type PoolId } from '../ids.ts';
import type { DamageRecord } from './block-messages.ts';

const PREFIX = 0x64;
const VALUE_VERSION = 1;
const KEY_BYTES = 5 + BLOCK_ID_BYTES;
/** More damage than this is a broken disk; the newest is told of. */
const RECORDS_MAX = 1024;
/** Mended damage is of interest while a pattern can be seen in it: two scrubs of the usual period. */
const KEPT_NS = 30n * 24n * 3600n * 1_000_000_000n;

export class DamageLog {
  readonly #kv: Kv;
  readonly #clock: Clock;
  /** In order of change, the newest last. */
  readonly #records: Map<string, DamageRecord>;

  private constructor(kv: Kv, clock: Clock, records: Map<string, DamageRecord>) {
    this.#kv = kv;
    this.#clock = clock;
    this.#records = records;
  }

  static async open(kv: Kv, clock: Clock, node: NodeId): Promise<DamageLog> {
    const found: DamageRecord[] = [];
    for await (const [key, value] of kv.scan({ gte: Uint8Array.of(PREFIX), lt: Uint8Array.of(PREFIX + 1) })) {
      const record = decode(key, value, node);
      if (record !== undefined) found.push(record);
    }
    found.sort((a, b) => Number(changedNs(a) - changedNs(b)));
    return new DamageLog(kv, clock, new Map(found.map((record) => [keyOf(record.pool, record.id), record])));
  }

  /** Newest last. */
  all(): readonly DamageRecord[] {
    const oldestNs = this.#clock.wallNs() - KEPT_NS;
    return [...this.#records.values()].filter((record) => !record.healed || changedNs(record) > oldestNs);
  }

  get(pool: PoolId, id: BlockId): DamageRecord | undefined {
    return this.#records.get(keyOf(pool, id));
  }

  /** Durable on return. */
  async put(record: DamageRecord): Promise<void> {
    const name = keyOf(record.pool, record.id);
    this.#records.delete(name);
    this.#records.set(name, record);
    const ops = [{ key: encodeKey(record.pool, record.id), value: encode(record) }];
    const dropped = this.#tooMany().map(({ pool, id }) => ({ key: encodeKey(pool, id) }));
    await this.#kv.batch([...ops, ...dropped], { sync: true });
  }

  /** The block is no more, here and for everybody. */
  async remove(pool: PoolId, id: BlockId): Promise<void> {
    if (this.#records.delete(keyOf(pool, id))) await this.#kv.batch([{ key: encodeKey(pool, id) }], { sync: false });
  }

  /** Takes out what is old or too many, mended ones first. */
  #tooMany(): DamageRecord[] {
    const oldestNs = this.#clock.wallNs() - KEPT_NS;
    const records = [...this.#records.values()];
    const dropped = records.filter((record) => record.healed && changedNs(record) < oldestNs);
    const left = records.filter((record) => !dropped.includes(record));
    const surplus = left.length - RECORDS_MAX;
    if (surplus > 0) {
      const oldestFirst = [...left.filter((record) => record.healed), ...left.filter((record) => !record.healed)];
      dropped.push(...oldestFirst.slice(0, surplus));
    }
    for (const { pool, id } of dropped) this.#records.delete(keyOf(pool, id));
    return dropped;
  }
}

function changedNs(record: DamageRecord): bigint {
  return record.healedAtNs ?? record.foundAtNs;
}

function keyOf(pool: PoolId, id: BlockId): string {
  return `${pool}/${blockIdToHex(id)}`;
}

function encodeKey(pool: PoolId, id: BlockId): Uint8Array {
  const key = new Uint8Array(KEY_BYTES);
  key[0] = PREFIX;
  new DataView(key.buffer).setUint32(1, pool);
  key.set(id, 5);
  return key;
}

function encode({ foundAtNs, healedAtNs, healed, foundBy }: DamageRecord): Uint8Array {
  const fields = { foundAtNs: String(foundAtNs), healedAtNs: healedAtNs && String(healedAtNs), healed, foundBy };
  return Buffer.concat([Uint8Array.of(VALUE_VERSION), Buffer.from(JSON.stringify(fields))]);
}

function decode(key: Uint8Array, value: Uint8Array, node: NodeId): DamageRecord | undefined {
  if (key.length !== KEY_BYTES || value[0] !== VALUE_VERSION) return undefined;
  try {
    const fields = JSON.parse(Buffer.from(value.subarray(1)).toString('utf8')) as Readonly<Record<string, unknown>>;
    const { foundAtNs, healedAtNs, healed, foundBy } = fields;
    if (typeof foundAtNs !== 'string' || typeof healed !== 'boolean') return undefined;
    return {
      node,
      pool: new DataView(key.buffer, key.byteOffset).getUint32(1) as PoolId,
      id: asBlockId(Uint8Array.prototype.slice.call(key, 5)),
      foundAtNs: BigInt(foundAtNs),
      healed,
      foundBy: foundBy === 'scrub' ? 'scrub' : 'read',
      ...(typeof healedAtNs === 'string' ? { healedAtNs: BigInt(healedAtNs) } : {}),
    };
  } catch {
    return undefined;
  }
}
