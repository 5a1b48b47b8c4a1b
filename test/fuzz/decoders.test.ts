/** Every decoder of what comes from the network or from disk, fed with damaged and hostile input. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as blockMessages from '../../src/blocks/block-messages.ts';
import { hashBlock } from '../../src/blocks/identity.ts';
import { decodeEntry, encodeEntry, mergeBlock } from '../../src/blocks/pack-entry.ts';
import {
  decodePackHeader,
  decodeRecordHead,
  encodePackHeader,
  encodeRecordHead,
  peekHeadBytes,
} from '../../src/blocks/pack-format.ts';
import { scanPack } from '../../src/blocks/pack-scanner.ts';
import { decodeCatalog, encodeCatalog, firstCatalog } from '../../src/catalog/document.ts';
import { parseCatalog, parseChange } from '../../src/catalog/schema.ts';
import { parseClusterKey } from '../../src/cluster-key.ts';
import { parseClusterFile } from '../../src/cluster-location.ts';
import { MemoryDisk } from '../../src/env-memory.ts';
import type { Epoch, HistoryId, Ino, NodeId, PoolId, Seq, SessionId } from '../../src/ids.ts';
import * as tableCodec from '../../src/meta/codec.ts';
import { decodeCommand, encodeCommand } from '../../src/meta/commands.ts';
import type { Command } from '../../src/meta/commands.ts';
import {
  decodeRecord,
  decodeSegmentHeader,
  encodeRecords,
  encodeSegmentHeader,
  findRecord,
} from '../../src/meta/group/log-record.ts';
import * as groupMessages from '../../src/meta/group/messages.ts';
import * as pushCodec from '../../src/meta/group/push-codec.ts';
import { decodeMutation, encodeMutation } from '../../src/meta/mutation-codec.ts';
import { decodeOutcome, encodeOutcome } from '../../src/meta/outcome.ts';
import { decodeQueryResult, encodeQueryResult } from '../../src/meta/query-codec.ts';
import {
  decodeMutateRequest,
  decodeQueryRequest,
  encodeMutateRequest,
  encodeQueryRequest,
  takeClientCommand,
} from '../../src/meta/requests.ts';
import type { Attr, Extent, Mutation, Query } from '../../src/meta/types.ts';
import { PacketCodec } from '../../src/net/discovery-packets.ts';
import {
  FRAME_FIXED_BYTES,
  FrameDecoder,
  FrameType,
  HANDSHAKE_LIMITS,
  OPEN_LIMITS,
  sealFrame,
} from '../../src/net/frames.ts';
import { Handshake } from '../../src/net/handshake.ts';
import {
  packError,
  packRequest,
  packResponse,
  unpackError,
  unpackRequest,
  unpackResponse,
} from '../../src/net/messages.ts';
import { FUZZ, damagedBytes, hostileHeader, mustSurvive, spoiltHeader } from './support.ts';

const HEX32 = '0123456789abcdef'.repeat(2);

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text));
}

function fuzzBytes(samples: readonly Uint8Array[], decode: (bytes: Uint8Array) => unknown): void {
  // The samples themselves must be good, or this tests little.
  for (const sample of samples) decode(sample);
  fc.assert(
    fc.property(damagedBytes(samples), (bytes) => mustSurvive(() => decode(bytes))),
    FUZZ,
  );
}

function fuzzHeader(valid: Readonly<Record<string, unknown>>, parse: (header: unknown) => unknown): void {
  parse(valid);
  const header = fc.oneof(spoiltHeader(valid), hostileHeader(Object.keys(valid)));
  fc.assert(
    fc.property(header, (value) => mustSurvive(() => parse(value))),
    FUZZ,
  );
}

const attr: Attr = {
  ino: 7 as Ino,
  type: 'file',
  mode: 0o644,
  uid: 1,
  gid: 2,
  nlink: 1,
  sizeBytes: 5,
  storedBytes: 5,
  atimeNs: 1n,
  mtimeNs: 2n,
  ctimeNs: 3n,
  rdev: 0,
  version: 4,
  generation: 1,
  pool: 1 as PoolId,
  parent: 1 as Ino,
  hasAcl: false,
  hasDefaultAcl: true,
  hasXattrs: true,
};
const { id, pageHashes } = hashBlock(bytesOf('a block'));
const extents: Extent[] = [
  { kind: 'block', offset: 0, lengthBytes: 7, pool: 1 as PoolId, id, blockOffset: 0, blockBytes: 7 },
  { kind: 'inline', offset: 7, lengthBytes: 3, data: bytesOf('abc') },
];
const name = bytesOf('name');
const owner = { uid: 1, gid: 2 };
const ino = 7 as Ino;
const parent = 1 as Ino;
const mutations: Mutation[] = [
  { op: 'make', parent, name, type: 'symlink', mode: 0o777, owner, rdev: 0, target: name, exclusive: true },
  { op: 'link', ino, parent, name },
  { op: 'unlink', parent, name, keepOpen: true },
  { op: 'unlink', parent, name, keepOpen: { unless: parent } },
  { op: 'rmdir', parent, name },
  { op: 'rename', parent, name, newParent: parent, newName: name, noReplace: false, exchange: false, keepOpen: false },
  { op: 'setattr', ino, set: { mode: 0o600, sizeBytes: 9, mtimeNs: 'now' } },
  { op: 'commit', ino, extents, growToBytes: 10, generation: 1, mtimeNs: 5n },
  { op: 'punch', ino, offset: 1, lengthBytes: 2 },
  { op: 'clone', ino, offset: 0, lengthBytes: 12, extents, generation: 1 },
  { op: 'compact', ino, extent: extents[0]!, digest: new Uint8Array(32), generation: 1 },
  { op: 'setxattr', ino, name, value: name, mode: 'any' },
  { op: 'setxattr', ino, name, value: name, mode: 'create', killSetgid: true },
  { op: 'make', parent, name, type: 'file', mode: 0o666, umask: 0o22, owner, rdev: 0, exclusive: true },
  { op: 'removexattr', ino, name },
  { op: 'releaseOrphan', ino },
  { op: 'lock', ino, lock: { kind: 'posix', type: 'read', owner: 3n, pid: 9, start: 4, end: 5 } },
];
const session = HEX32 as SessionId;
const commands: Command[] = [
  ...mutations.map((mutation, index): Command => {
    return { kind: 'client', session, requestId: index + 1, ackedBelow: 1, nowNs: 1n, mutation };
  }),
  { kind: 'openSession', session, nowNs: 1n, leaseMs: 1, label: 'x' },
  { kind: 'expireSession', session },
  { kind: 'gcBarrier', generation: 1 },
  { kind: 'reclaim', maxRows: 10 },
  { kind: 'noop' },
];

describe('network bytes', () => {
  const news = { catalogEpoch: 1, fullPermille: 2, gcGeneration: 3 };
  const body = (frame: Uint8Array): Uint8Array => Uint8Array.from(frame.subarray(FRAME_FIXED_BYTES));

  it('headers of requests, replies and errors', () => {
    fuzzBytes([body(packRequest('a.b', 5, news, { group: 'g0', list: [1, 'x', name] }))], unpackRequest);
    fuzzBytes([body(packResponse(news, { a: [1, 2, { b: null }] }))], unpackResponse);
    fuzzBytes([body(packError(news, new Error('x')))], unpackError);
  });

  it('headers that claim to be large, or are deep', () => {
    // array, map, string, bytes, extension; each with a 32-bit length.
    for (const type of [0xdd, 0xdf, 0xdb, 0xc6, 0xc9]) {
      for (const length of [0xffffffff, 0x7fffffff, 0x01ffffff, 0x00ffffff]) {
        const claim = Buffer.alloc(64);
        claim.writeUInt8(type, 0);
        claim.writeUInt32BE(length, 1);
        const bytes = Uint8Array.from(claim);
        const inside = Uint8Array.from(Buffer.concat([Buffer.of(0x96, 0xa1, 0x61, 5, 1, 2, 3), claim]));
        mustSurvive(() => unpackRequest(bytes));
        mustSurvive(() => unpackRequest(inside));
      }
    }
    for (const nesting of [0x91, 0x81]) mustSurvive(() => unpackRequest(new Uint8Array(1_000_000).fill(nesting)));
  });

  it('streams of frames, before and after the handshake', () => {
    const request = packRequest('a.b', 5, news, { x: 1 });
    sealFrame(request, FrameType.request, 0, 1, 0, 0, undefined);
    for (const limits of [OPEN_LIMITS, HANDSHAKE_LIMITS]) {
      fc.assert(
        fc.property(
          damagedBytes([request, Uint8Array.from(Buffer.concat([request, request]))]),
          fc.nat(60),
          (bytes, cut) =>
            mustSurvive(() => {
              const sink = {
                onFrame: (
                  _type: unknown,
                  _flags: unknown,
                  _id: unknown,
                  _header: unknown,
                  _payload: number,
                  chunk: number,
                ) => new Uint8Array(chunk),
                onChunk: () => undefined,
              };
              const decoder = new FrameDecoder(sink, limits);
              decoder.push(bytes.subarray(0, cut));
              decoder.push(bytes.subarray(cut));
            }),
        ),
        FUZZ,
      );
    }
  });

  it('handshakes', () => {
    const make = (role: 'initiator' | 'responder', fill: number): Handshake =>
      new Handshake({
        role,
        key: new Uint8Array(32).fill(1),
        clusterId: HEX32,
        nonce: new Uint8Array(32).fill(fill),
        self: { kind: 'node', nodeId: 'n1' as NodeId, instanceId: HEX32, address: '127.0.0.1:1', label: 'x' },
        remoteAddress: '127.0.0.1:2',
      });
    const hello = make('initiator', 2).start().send.map(body);
    fuzzBytes(hello, (bytes) => make('responder', 3).receive(FrameType.hello, bytes));
    fuzzBytes(hello, (bytes) => {
      const responder = make('responder', 3);
      responder.receive(FrameType.hello, hello[0] ?? bytes);
      if (bytes !== hello[0]) responder.receive(FrameType.proof, bytes);
    });
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) =>
        mustSurvive(() => make('initiator', 2).receive(FrameType.refuse, bytes)),
      ),
    );
  });

  it('discovery packets', () => {
    const codec = new PacketCodec(new Uint8Array(32).fill(1), HEX32);
    const stamp = { instance: 1n, wallMs: 2, counter: 3n, nonce: new Uint8Array(16) };
    const packets = [
      codec.encode({ type: 'discovery', address: '127.0.0.1:1', groupHashes: [1n, 2n], ...stamp }),
      codec.encode({ type: 'ack', address: '127.0.0.1:1', groupHash: 1n, answers: new Uint8Array(16), ...stamp }),
    ];
    fuzzBytes(packets, (bytes) => codec.decode(bytes));
  });
});

describe('messages', () => {
  const hex = Buffer.from(id).toString('hex');

  it('of blocks', () => {
    const parsers = Object.entries(blockMessages).filter(([key]) => key.startsWith('parse'));
    expect(parsers.length).toBeGreaterThan(9);
    const fields = [
      'pool',
      'id',
      'ids',
      'lengthBytes',
      'blockBytes',
      'firstPage',
      'pageCount',
      'wantHashes',
      'pageHashes',
    ];
    const more = [
      'nodes',
      'chain',
      'later',
      'generation',
      'epoch',
      'placementEpoch',
      'failures',
      'after',
      'limit',
      'items',
    ];
    const even = [
      'sync',
      'minGeneration',
      'stored',
      'cursor',
      'below',
      'deadlineMs',
      'copies',
      'existed',
      'lengths',
      'held',
    ];
    for (const [, parse] of parsers as [string, (header: unknown, extra: number) => unknown][]) {
      fc.assert(
        fc.property(hostileHeader([...fields, ...more, ...even]), (header) => mustSurvive(() => parse(header, 3))),
        FUZZ,
      );
    }
    fuzzHeader({ pool: 1, id, ids: [id, id], generation: 1 }, (header) => {
      mustSurvive(() => blockMessages.parseIds(header));
      mustSurvive(() => blockMessages.parseSweep(header));
      mustSurvive(() => blockMessages.parseBlock(header));
    });
    expect(hex).toHaveLength(64);
  });

  it('of groups', () => {
    const head = { group: 'g0', epoch: 1, historyId: 'h' };
    const entry = { seq: 2 as Seq, epoch: 1 as Epoch, prevEpoch: 1 as Epoch, command: name };
    const at = { prevSeq: 1, prevEpoch: 1, committedSeq: 1, syncedSeq: 1 };
    const pushes = [
      pushCodec.encodeSyncPush({ ...head, ...at, entries: [entry], sync: true, copy: false }),
      pushCodec.encodeSyncPush({ ...head, ...at, entries: [], sync: false, copy: true }),
    ];
    fuzzBytes(pushes, pushCodec.parseSyncPush);
    const replies = [
      pushCodec.encodeSyncPushReply({ status: 'logged', lastSeq: 1, syncedSeq: 1 }),
      pushCodec.encodeSyncPushReply({ status: 'mismatch', ends: [[1, 2]] }),
      pushCodec.encodeSyncPushReply({ status: 'copying' }),
    ];
    fuzzBytes(replies, pushCodec.parseSyncPushReply);
    fuzzHeader({ ...head, fromSeq: 1 }, groupMessages.parseTailRequest);
    fuzzHeader({ ends: [[1, 2]], prevEpoch: 1, entries: [[1, name]] }, (h) => groupMessages.parseTailReply(h, 2));
    fuzzHeader(
      { cursor: 'x', appliedSeq: 1, appliedEpoch: 1, items: [[name, name]] },
      groupMessages.parseSyncPullReply,
    );
    fuzzHeader({ cursor: 'x' }, groupMessages.parseCursor);
  });

  it('of metadata', () => {
    fuzzBytes(
      mutations.map((mutation) => encodeMutation(mutation)),
      decodeMutation,
    );
    fuzzBytes(
      [encodeOutcome({ ok: true, result: { attr, parentAttr: attr } }), encodeOutcome({ ok: false, code: 'ENOENT' })],
      decodeOutcome,
    );
    const asked: Query[] = [
      { op: 'readdir', ino, after: name, limit: 5, withAttrs: true },
      { op: 'extents', ino, offset: 1, lengthBytes: 1, limit: 5 },
      { op: 'lookup', parent: ino, name },
    ];
    fuzzBytes(
      asked.map((query) => encodeQueryRequest('g0', query)),
      decodeQueryRequest,
    );
    const head = { session: '0123456789abcdef'.repeat(2) as SessionId, requestId: 1, ackedBelow: 1 };
    fuzzBytes(
      mutations.map((mutation) => encodeMutateRequest('g0', head, mutation)),
      (bytes) => takeClientCommand(decodeMutateRequest(new Uint8Array(bytes)).bytes, 7n),
    );
    const block = extents.filter((extent) => extent.kind === 'block');
    const results = [
      ['lookup', encodeQueryResult('lookup', { attr })],
      ['getattr', encodeQueryResult('getattr', { attr })],
      ['readlink', encodeQueryResult('readlink', { target: name })],
      ['readdir', encodeQueryResult('readdir', { entries: [{ name, ino, type: 'file', attr }], more: false, attr })],
      ['readdir', encodeQueryResult('readdir', { entries: [{ name, ino, type: 'file', attr }], more: true, attr })],
      ['extents', encodeQueryResult('extents', { extents, more: true, attr })],
      ['getxattr', encodeQueryResult('getxattr', { value: name })],
      ['listxattr', encodeQueryResult('listxattr', { names: [name, name] })],
      ['statfs', encodeQueryResult('statfs', { inodeCount: 1, storedBytes: 2 })],
      ['paths', encodeQueryResult('paths', { paths: [name] })],
      ['allExtents', encodeQueryResult('allExtents', { items: block.map((extent) => ({ ino, extent })), more: false })],
    ] as const satisfies readonly (readonly [Query['op'], Uint8Array])[];
    for (const [op, bytes] of results) {
      // Some of it is decoded when it is looked at.
      fuzzBytes([bytes], (damaged) => {
        const result = decodeQueryResult(op, damaged);
        return 'entries' in result ? result.entries : result;
      });
    }
  });

  it('of the catalog', () => {
    const node = {
      id: 'n1' as NodeId,
      storeId: 'ab'.repeat(8),
      address: 'a:1',
      weight: 1,
      host: 'h',
      rack: 'r',
      zone: 'z',
    };
    const catalog = firstCatalog({
      clusterId: HEX32,
      historyId: 'ab'.repeat(8) as HistoryId,
      nodes: [node, { ...node, id: 'n2' as NodeId, storeId: 'cd'.repeat(8), address: 'b:1' }],
    });
    fuzzHeader({ ...catalog }, parseCatalog);
    const [group] = catalog.groups;
    const [pool] = catalog.pools;
    fuzzHeader({ kind: 'putNode', node }, parseChange);
    const { name, kind, copies, blockSizeBytes, pgCount, domain } = catalog.pools[0]!;
    const settings = { copies, blockSizeBytes, pgCount, domain };
    fuzzHeader({ kind: 'createPool', pool: { name, kind, ...settings } }, parseChange);
    fuzzHeader({ ...settings }, (set) => parseChange({ kind: 'setPool', id: 1, set }));
    fuzzHeader({ kind: 'putGroup', group, expectedGroupEpoch: 1 }, parseChange);
    if (group === undefined || pool === undefined) throw new Error('no group');
    fuzzHeader({ ...group }, (changed) => parseCatalog({ ...catalog, groups: [changed] }));
    fuzzHeader({ ...pool }, (changed) => parseCatalog({ ...catalog, pools: [changed] }));
    fuzzHeader({ ...node }, (changed) => parseChange({ kind: 'putNode', node: changed }));
    fuzzBytes([encodeCatalog(catalog)], decodeCatalog);
  });
});

describe('files', () => {
  it('log records and segment headers', () => {
    const entry = { seq: 5 as Seq, epoch: 2 as Epoch, prevEpoch: 1 as Epoch, command: encodeCommand({ kind: 'noop' }) };
    const records = encodeRecords([entry, { ...entry, seq: 6 as Seq }], 4);
    fuzzBytes([records], (bytes) => decodeRecord(bytes, 0));
    fuzzBytes([records], (bytes) => findRecord(bytes, 1));
    fuzzBytes([encodeSegmentHeader({ firstSeq: 3, baseEpoch: 1 })], decodeSegmentHeader);
  });

  it('commands in the log', () => {
    fuzzBytes(
      commands.map((command) => encodeCommand(command)),
      decodeCommand,
    );
  });

  it('rows of the metadata table', () => {
    fuzzBytes(
      extents.map((extent) => tableCodec.encodeExtent(extent)),
      (bytes) => tableCodec.decodeExtent(0, bytes),
    );
    fuzzBytes([tableCodec.encodeDirent({ ino, type: 'file' })], tableCodec.decodeDirent);
    fuzzBytes([tableCodec.encodeOrphan({ holders: [session], number: 3 })], tableCodec.decodeOrphan);
    fuzzBytes([tableCodec.encodeUnanswered(ino)], tableCodec.decodeUnanswered);
    fuzzBytes([], tableCodec.decodeDead);
    fuzzBytes([], tableCodec.decodeCounters);
    fuzzBytes([], (bytes) => tableCodec.decodeInode(ino, bytes));
  });

  it('packs', async () => {
    const header = encodePackHeader({ storeId: 'ab'.repeat(8), salt: 5n, pack: 1 });
    const record = {
      type: 'block',
      pool: 1 as PoolId,
      id,
      lengthBytes: 7,
      seq: 1,
      generation: 1,
      syncedBytes: 0,
    } as const;
    const head = encodeRecordHead(record, pageHashes, 5n, 1, header.length);
    fuzzBytes([header], decodePackHeader);
    fuzzBytes([head], (bytes) => decodeRecordHead(bytes, 5n, 1, header.length));
    fuzzBytes([head], peekHeadBytes);
    fuzzBytes([encodeEntry(mergeBlock(undefined, { ...record, pack: 1, offset: 96 }))], decodeEntry);
    const pack = Uint8Array.from(Buffer.concat([header, head, bytesOf('a block'), head, bytesOf('a block')]));
    const disk = new MemoryDisk();
    await fc.assert(
      fc.asyncProperty(damagedBytes([pack]), async (bytes) => {
        const file = await disk.open('/pack', 'create');
        await file.truncate(0);
        await file.write([bytes], 0);
        let end = 0;
        for await (const found of scanPack({ file, pack: 1, salt: 5n }, 0, bytes.length)) {
          // In order, without overlap, and never beyond the end: recovery relies on it.
          expect(found.offset).toBe(end);
          expect(found.endOffset).toBeGreaterThan(found.offset);
          end = found.endOffset;
        }
        expect(end).toBe(bytes.length);
        await file.close();
      }),
      FUZZ,
    );
  });

  it('files of a cluster', () => {
    const text = (parse: (text: string) => unknown) => (bytes: Uint8Array) => parse(new TextDecoder().decode(bytes));
    fuzzBytes(
      [],
      text((found) => parseClusterKey(found, 'key')),
    );
    fuzzBytes(
      [],
      text((found) => parseClusterFile(found, 'file')),
    );
  });
});
