/**
 * The block service's messages: method names, shapes, and the checks that whatever arrives from the wire passes before
 * it is used. Described in docs/protocol.md, "Blocks".
 */
import { FormatError, TatamiError } from '../errors.ts';
import { asBlockId, BLOCK_ID_BYTES, type BlockId, type NodeId, type PoolId } from '../ids.ts';
import { BLOCK_MAX_BYTES, PAGE_BYTES } from '../limits.ts';
import type { Address } from '../env.ts';
import { parseAddress } from '../net/address.ts';
import type { BlockPlace } from './types.ts';

export const blockMethods = {
  put: 'block.put',
  push: 'block.push',
  get: 'block.get',
  share: 'block.share',
  where: 'block.where',
  places: 'block.places',
  has: 'block.has',
  renew: 'block.renew',
  delete: 'block.delete',
  list: 'block.list',
  usage: 'block.usage',
  reportDamage: 'block.reportDamage',
  damageLog: 'block.damageLog',
  gcBegin: 'block.gcBegin',
  listOld: 'block.listOld',
  sweepOld: 'block.sweepOld',
  compact: 'block.compact',
  heal: 'block.heal',
  scrub: 'block.scrub',
} as const;

/** Ids in one `block.has`, `block.renew`, `block.places`, `block.sweepOld`, and items in one page of a list: a header of some 200 KiB. */
export const IDS_PER_MESSAGE_MAX = 4096;
/** Nodes one put may name: more synchronous or later copies than anyone keeps. */
const NODES_PER_PUT_MAX = 32;
const PATH_MAX_CHARS = 4096;
/** More than a holder names. */
const PEERS_PER_MESSAGE_MAX = 8;
const ADDRESS_MAX_CHARS = 300;
const PAGES_PER_BLOCK_MAX = BLOCK_MAX_BYTES / PAGE_BYTES;

/** Payload: the block. */
export interface PutRequest {
  readonly pool: PoolId;
  readonly id: BlockId;
  readonly lengthBytes: number;
  /** Of the pool, in the sender's catalog. */
  readonly placementEpoch: number;
  /** The stamp is at least this. */
  readonly minGeneration: number;
  /** Further nodes that must have it before the reply, in forwarding order. */
  readonly chain: readonly NodeId[];
  /** Nodes that get it from the receiver after the reply. */
  readonly later: readonly NodeId[];
  /** Nobody waits for it: background work of the receiver need not give way. */
  readonly background?: true;
}

/** Reply to `block.put` and `block.push`. A put that reached some of its nodes is no error: the sender goes on from there. */
export interface PutReply {
  /** Who has it on disk, and under which stamp. */
  readonly holders: readonly { readonly node: NodeId; readonly generation: number }[];
  readonly failures: readonly { readonly node: NodeId; readonly code: string; readonly message: string }[];
  /** The later copies are remembered on disk. */
  readonly laterAccepted: boolean;
}

/** Asks a holder to send its copy to other nodes: now (the reply waits for them), or later (remembered on disk). */
export interface PushRequest {
  readonly pool: PoolId;
  readonly id: BlockId;
  readonly placementEpoch: number;
  readonly minGeneration: number;
  readonly to: readonly NodeId[];
  readonly mode: 'now' | 'later';
}

export interface GetRequest {
  readonly pool: PoolId;
  readonly id: BlockId;
  readonly firstPage: number;
  readonly pageCount: number;
  readonly wantHashes: boolean;
  /** By a reader that keeps what it reads and gives it to others. */
  readonly share?: ShareAsk | undefined;
}

/** What a reader that shares says with its request for a whole block. */
export interface ShareAsk {
  /** It wants the block from this holder, not the names of others. */
  readonly direct: boolean;
  /** Bytes that it keeps, and all that it has read since it began. */
  readonly cacheBytes: number;
  readonly readBytes: number;
  /** Readers whose names it had from here, and who do not have the block, or cannot be reached. */
  readonly gone: readonly Address[];
  /** Those who had too much to do, or took too long. */
  readonly slow: readonly Address[];
}

/** Payload: `hashBytes` of page hashes, then the pages; nothing, if there are `peers`. */
export interface GetReply {
  readonly blockBytes: number;
  readonly firstPage: number;
  readonly hashBytes: number;
  /** Requests for blocks that the holder had when it began with this one. */
  readonly load?: number;
  /** To one that shares: other readers that may have the block. */
  readonly readerCount?: number;
  /** To one that shares: it shall ask these, in this order. */
  readonly peers?: readonly Address[];
}

/** Asks a node on the same machine where its copy lies. Reply: a {@link BlockPlace}. */
export interface WhereRequest {
  readonly pool: PoolId;
  readonly id: BlockId;
  /** What will be read of it, for the node's statistics. */
  readonly wantedBytes: number;
}

export interface IdsRequest {
  readonly pool: PoolId;
  readonly ids: readonly BlockId[];
}

export interface ListRequest {
  readonly pool: PoolId;
  /** From the previous page's reply; null to begin. */
  readonly cursor: string | null;
  readonly limit: number;
  /** Only blocks stamped below this. */
  readonly belowGeneration: number;
}

export interface ListReply {
  readonly items: readonly (readonly [BlockId, number, number])[];
  readonly cursor: string | null;
}

export interface RenewRequest extends IdsRequest {
  /** The stamps are at least this. */
  readonly minGeneration: number;
}

export interface RenewReply {
  readonly present: readonly boolean[];
  readonly generation: number;
}

export interface SweepRequest extends IdsRequest {
  readonly generation: number;
}

export interface DamageRecord {
  readonly node: NodeId;
  readonly pool: PoolId;
  readonly id: BlockId;
  /** Nanoseconds since the Unix epoch. */
  readonly foundAtNs: bigint;
  readonly healed: boolean;
  readonly healedAtNs?: bigint;
  readonly foundBy: DamageFinder;
}

/** A program that read the block (or the node, for one), or the scrub. */
export type DamageFinder = 'read' | 'scrub';

// Parsing

type Fields = Readonly<Record<string, unknown>>;

function fields(header: unknown, what: string): Fields {
  if (typeof header !== 'object' || header === null || Array.isArray(header))
    throw new FormatError(`${what}: the header is not an object`);
  return header as Fields;
}

function count(value: unknown, name: string, most: number = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > most) {
    throw new FormatError(`${name} must be an integer from 0 to ${most}`);
  }
  return value;
}

function poolId(value: unknown): PoolId {
  const pool = count(value, 'pool', 2 ** 32 - 1);
  if (pool === 0) throw new FormatError('pool must be at least 1');
  return pool as PoolId;
}

/** Copies: what arrives is a view into a receive buffer. */
function blockId(value: unknown): BlockId {
  if (!(value instanceof Uint8Array) || value.length !== BLOCK_ID_BYTES)
    throw new FormatError(`a block id must have ${BLOCK_ID_BYTES} bytes`);
  return asBlockId(Uint8Array.prototype.slice.call(value));
}

function list(value: unknown, name: string, most: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length > most) throw new FormatError(`${name} must be a list of at most ${most}`);
  return value as readonly unknown[];
}

function nodeId(value: unknown): NodeId {
  if (typeof value !== 'string' || !/^[a-z0-9-]{1,64}$/.test(value))
    throw new FormatError('a node id has 1 to 64 of a-z, 0-9 and -');
  return value as NodeId;
}

function nodeIds(value: unknown, name: string): readonly NodeId[] {
  return list(value, name, NODES_PER_PUT_MAX).map(nodeId);
}

export function parsePut(header: unknown): PutRequest {
  const h = fields(header, 'block.put');
  return {
    pool: poolId(h['pool']),
    id: blockId(h['id']),
    lengthBytes: count(h['lengthBytes'], 'lengthBytes'),
    placementEpoch: count(h['placementEpoch'], 'placementEpoch'),
    minGeneration: count(h['minGeneration'], 'minGeneration'),
    chain: nodeIds(h['chain'], 'chain'),
    later: nodeIds(h['later'], 'later'),
    ...(isBackground(header) ? { background: true } : {}),
  };
}

/** Of any header: whether it says so. */
export function isBackground(header: unknown): boolean {
  return (header as { background?: unknown } | null)?.background === true;
}

export function parsePutReply(header: unknown): PutReply {
  const h = fields(header, 'reply to block.put');
  return {
    holders: list(h['holders'], 'holders', NODES_PER_PUT_MAX).map((holder) => {
      const f = fields(holder, 'holder');
      return { node: nodeId(f['node']), generation: count(f['generation'], 'generation') };
    }),
    failures: list(h['failures'], 'failures', NODES_PER_PUT_MAX).map((failure) => {
      const f = fields(failure, 'failure');
      return { node: nodeId(f['node']), code: String(f['code']), message: String(f['message']) };
    }),
    laterAccepted: h['laterAccepted'] === true,
  };
}

export function parsePush(header: unknown): PushRequest {
  const h = fields(header, 'block.push');
  const mode = h['mode'];
  if (mode !== 'now' && mode !== 'later') throw new FormatError('mode must be now or later');
  return {
    pool: poolId(h['pool']),
    id: blockId(h['id']),
    placementEpoch: count(h['placementEpoch'], 'placementEpoch'),
    minGeneration: count(h['minGeneration'], 'minGeneration'),
    to: nodeIds(h['to'], 'to'),
    mode,
  };
}

function addresses(value: unknown, name: string): readonly Address[] {
  return list(value ?? [], name, PEERS_PER_MESSAGE_MAX).map((address) => {
    if (typeof address !== 'string' || address.length > ADDRESS_MAX_CHARS) {
      throw new FormatError(`${name} must be addresses`);
    }
    try {
      parseAddress(address);
    } catch (cause) {
      throw new FormatError(`${name} must be addresses`, { cause });
    }
    return address;
  });
}

function parseShareAsk(value: unknown): ShareAsk {
  const h = fields(value, 'share of block.get');
  return {
    direct: h['direct'] === true,
    cacheBytes: count(h['cacheBytes'], 'cacheBytes'),
    readBytes: count(h['readBytes'], 'readBytes'),
    gone: addresses(h['gone'], 'gone'),
    slow: addresses(h['slow'], 'slow'),
  };
}

export function parseGet(header: unknown): GetRequest {
  const h = fields(header, 'block.get');
  const share = h['share'];
  return {
    pool: poolId(h['pool']),
    id: blockId(h['id']),
    firstPage: count(h['firstPage'], 'firstPage', PAGES_PER_BLOCK_MAX),
    pageCount: count(h['pageCount'], 'pageCount', PAGES_PER_BLOCK_MAX),
    wantHashes: h['wantHashes'] === true,
    ...(share === undefined ? {} : { share: parseShareAsk(share) }),
  };
}

export function parseGetReply(header: unknown, payloadBytes: number): GetReply {
  const h = fields(header, 'reply to block.get');
  return {
    blockBytes: count(h['blockBytes'], 'blockBytes', BLOCK_MAX_BYTES),
    firstPage: count(h['firstPage'], 'firstPage', PAGES_PER_BLOCK_MAX),
    hashBytes: count(h['hashBytes'], 'hashBytes', Math.min(payloadBytes, PAGES_PER_BLOCK_MAX * 32)),
    load: count(h['load'] ?? 0, 'load'),
    readerCount: count(h['readerCount'] ?? 0, 'readerCount'),
    peers: addresses(h['peers'], 'peers'),
  };
}

export function parseWhere(header: unknown): WhereRequest {
  const h = fields(header, 'block.where');
  return {
    pool: poolId(h['pool']),
    id: blockId(h['id']),
    wantedBytes: count(h['wantedBytes'], 'wantedBytes', BLOCK_MAX_BYTES),
  };
}

export function parseWhereReply(header: unknown): BlockPlace {
  const h = fields(header, 'reply to block.where');
  return place(directoryOf(h), h['pack'], h['dataOffset'], h['lengthBytes']);
}

/** Reply to `block.places`: all are in one directory, which is sent once. */
export function placesReply(places: readonly (BlockPlace | undefined)[]): unknown {
  return {
    directory: places.find((one) => one !== undefined)?.directory ?? null,
    places: places.map((one) => (one === undefined ? null : [one.pack, one.dataOffset, one.lengthBytes])),
  };
}

/** In the order of the ids asked for, as far as the node has them. */
export function parsePlacesReply(header: unknown, asked: number): readonly (BlockPlace | undefined)[] {
  const h = fields(header, 'reply to block.places');
  const places = list(h['places'], 'places', asked);
  if (places.every((one) => one === null)) return [];
  const directory = directoryOf(h);
  return places.map((one) => {
    if (one === null) return undefined;
    const [pack, dataOffset, lengthBytes] = list(one, 'place', 3);
    return place(directory, pack, dataOffset, lengthBytes);
  });
}

function directoryOf({ directory }: Fields): string {
  if (typeof directory !== 'string' || !directory.startsWith('/') || directory.length > PATH_MAX_CHARS) {
    throw new FormatError('the directory of a place must be an absolute path');
  }
  return directory;
}

function place(directory: string, pack: unknown, dataOffset: unknown, lengthBytes: unknown): BlockPlace {
  return {
    directory,
    pack: count(pack, 'pack', 2 ** 32 - 1),
    dataOffset: count(dataOffset, 'dataOffset'),
    lengthBytes: count(lengthBytes, 'lengthBytes', BLOCK_MAX_BYTES),
  };
}

export function parseBlock(header: unknown): { readonly pool: PoolId; readonly id: BlockId } {
  const h = fields(header, 'block');
  return { pool: poolId(h['pool']), id: blockId(h['id']) };
}

export function parseIds(header: unknown): IdsRequest {
  const h = fields(header, 'block ids');
  return { pool: poolId(h['pool']), ids: list(h['ids'], 'ids', IDS_PER_MESSAGE_MAX).map(blockId) };
}

/** Without `minGeneration`: what the node has. */
export function parseRenew(header: unknown): RenewRequest {
  const least = fields(header, 'block.renew')['minGeneration'];
  return { ...parseIds(header), minGeneration: least === undefined ? 0 : count(least, 'minGeneration') };
}

/** Of the blocks asked for, in their order: whether it is there, and then its stamp is at least `generation`. */
export function parseRenewReply(header: unknown, asked: number): RenewReply {
  const h = fields(header, 'reply to block.renew');
  const present = list(h['present'], 'present', asked).map((one) => one === true);
  if (present.length !== asked) {
    throw new FormatError(`block.renew was asked for ${asked} blocks and answered for ${present.length}`);
  }
  return { present, generation: count(h['generation'], 'generation') };
}

export function parseGeneration(header: unknown): number {
  return count(fields(header, 'generation')['generation'], 'generation');
}

export function parseSweep(header: unknown): SweepRequest {
  return { ...parseIds(header), generation: parseGeneration(header) };
}

/** `block.listOld` gives its bound as `generation`; `block.list` has none. */
export function parseList(header: unknown): ListRequest {
  const h = fields(header, 'block.list');
  const cursor = h['cursor'] ?? null;
  if (cursor !== null && typeof cursor !== 'string') throw new FormatError('cursor must be text or null');
  return {
    pool: poolId(h['pool']),
    cursor,
    limit: Math.max(1, count(h['limit'], 'limit', IDS_PER_MESSAGE_MAX)),
    belowGeneration: h['generation'] === undefined ? Number.MAX_SAFE_INTEGER : count(h['generation'], 'generation'),
  };
}

export function parseListReply(header: unknown): ListReply {
  const h = fields(header, 'reply to block.list');
  const cursor = h['cursor'] ?? null;
  if (cursor !== null && typeof cursor !== 'string') throw new FormatError('cursor must be text or null');
  const items = list(h['items'], 'items', IDS_PER_MESSAGE_MAX).map((item) => {
    const [id, lengthBytes, generation] = list(item, 'item', 3);
    return [blockId(id), count(lengthBytes, 'lengthBytes', BLOCK_MAX_BYTES), count(generation, 'generation')] as const;
  });
  return { items, cursor };
}

/** Lengths in the order of the ids asked for, null where absent. */
export function parseHasReply(header: unknown, asked: number): readonly (number | null)[] {
  const lengths = list(fields(header, 'reply to block.has')['lengths'], 'lengths', asked);
  if (lengths.length !== asked)
    throw new FormatError(`block.has was asked for ${asked} blocks and answered for ${lengths.length}`);
  return lengths.map((length) => (length === null ? null : count(length, 'length', BLOCK_MAX_BYTES)));
}

/** What goes into {@link PutReply.failures}. */
export function describeFailure(node: NodeId, error: unknown): PutReply['failures'][number] {
  const code = error instanceof TatamiError ? error.code : 'ERR_UNAVAILABLE';
  return { node, code, message: error instanceof Error ? error.message : String(error) };
}
