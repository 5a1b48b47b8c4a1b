import { describe, expect, it } from 'vitest';
import { sampleBytes } from '../../test/conformance/block-store.ts';
import { MemoryDisk } from '../env-memory.ts';
import type { PoolId } from '../ids.ts';
import { KiB, PAGE_BYTES } from '../limits.ts';
import { hashBlock } from './identity.ts';
import {
  decodePackHeader,
  decodeRecordHead,
  encodePackHeader,
  encodeRecordHead,
  PACK_HEADER_BYTES,
  packFileName,
  parsePackFileName,
  RECORD_MAGIC_BYTES,
  type RecordHeader,
} from './pack-format.ts';
import { scanPack } from './pack-scanner.ts';

const SALT = 0x0123456789abcdefn;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function blockHead(data: Uint8Array, seq: number, offset: number): Uint8Array {
  const { id, pageHashes } = hashBlock(data);
  const header: RecordHeader = {
    type: 'block',
    pool: 3 as PoolId,
    id,
    lengthBytes: data.length,
    seq,
    generation: 9,
    syncedBytes: 96,
  };
  return encodeRecordHead(header, pageHashes, SALT, 5, offset);
}

describe('pack headers', () => {
  const bytes = encodePackHeader({ storeId: 'n1', salt: SALT, pack: 5 });

  it('have the golden bytes', () => {
    expect(hex(bytes.subarray(0, 32))).toBe(
      '54746d5001020000' + '0500000000000000' + 'efcdab8967452301' + '6e31000000000000',
    );
    expect(hex(bytes.subarray(32, 88))).toBe('00'.repeat(56));
    expect(hex(bytes.subarray(88))).toBe('d1a735cb34db7af2');
    expect(decodePackHeader(bytes)).toEqual({ storeId: 'n1', salt: SALT, pack: 5 });
  });

  it('are not believed with any byte changed', () => {
    for (let at = 0; at < bytes.length; at++) {
      const changed = bytes.slice();
      changed[at]! ^= 0x10;
      expect(decodePackHeader(changed)).toBeUndefined();
    }
    expect(decodePackHeader(bytes.subarray(0, 95))).toBeUndefined();
  });

  it('have file names that sort by number', () => {
    expect(packFileName(12)).toBe('0000000012.pack');
    expect(parsePackFileName('0000000012.pack')).toBe(12);
    for (const name of ['12.pack', '0000000000.pack', '0000000012.pack.tmp', '9999999999.pack', 'x'])
      expect(parsePackFileName(name)).toBeUndefined();
  });
});

describe('record heads', () => {
  const data = sampleBytes(PAGE_BYTES + 1);
  const head = blockHead(data, 77, 1000);

  it('have the golden bytes', () => {
    expect(hex(head.subarray(0, 40))).toBe(
      '54746d5201010200' + '0300000001000100' + '4d00000000000000' + '0900000000000000' + '6000000000000000',
    );
    expect(hex(head.subarray(40, 72))).toBe(hex(hashBlock(data).id));
    expect(hex(head.subarray(72, 80))).toBe('5bf6ac80ee831fc2');
    expect(hex(head.subarray(80))).toBe(hex(hashBlock(data).pageHashes));
  });

  it('come back, in their own place only', () => {
    const decoded = decodeRecordHead(head, SALT, 5, 1000)!;
    expect(decoded.header).toMatchObject({
      type: 'block',
      pool: 3,
      lengthBytes: data.length,
      seq: 77,
      generation: 9,
      syncedBytes: 96,
    });
    expect(hex(decoded.pageHashes)).toBe(hex(hashBlock(data).pageHashes));
    expect(decodeRecordHead(head, SALT, 5, 1001)).toBeUndefined();
    expect(decodeRecordHead(head, SALT, 6, 1000)).toBeUndefined();
    expect(decodeRecordHead(head, SALT + 1n, 5, 1000)).toBeUndefined();
  });

  it('are not believed with any byte changed or missing', () => {
    for (let at = 0; at < head.length; at++) {
      const changed = Uint8Array.from(head);
      changed[at]! ^= 0x01;
      expect(decodeRecordHead(changed, SALT, 5, 1000), `byte ${at}`).toBeUndefined();
      expect(decodeRecordHead(head.subarray(0, at), SALT, 5, 1000)).toBeUndefined();
    }
  });
});

describe('scanPack', () => {
  it('finds what is whole, around damage of any kind', async () => {
    const disk = new MemoryDisk();
    const file = await disk.open('/pack', 'create');
    const parts: { offset: number; endOffset: number }[] = [];
    let offset = PACK_HEADER_BYTES;
    const blocks = [10, 70_000, 5000, 200_000, 30, 1].map((length, index) => sampleBytes(length, index + 1));
    // A block that is full of magics, across the borders of the windows too.
    blocks.push(
      Uint8Array.from({ length: 100 * KiB }, (_, index) => RECORD_MAGIC_BYTES[index % 4]!),
      sampleBytes(77, 99),
    );
    for (const [index, data] of blocks.entries()) {
      const head = blockHead(data, index + 1, offset);
      await file.write([head, data], offset);
      parts.push({ offset, endOffset: offset + head.length + data.length });
      offset = parts.at(-1)!.endOffset;
    }
    const scan = async (end = offset): Promise<string[]> => {
      const found: string[] = [];
      for await (const one of scanPack({ file, pack: 5, salt: SALT }, PACK_HEADER_BYTES, end)) {
        found.push(`${one.kind} ${one.offset}-${one.endOffset}`);
      }
      return found;
    };
    const records = parts.map((part) => `record ${part.offset}-${part.endOffset}`);
    expect(await scan()).toEqual(records);
    expect(await scan(offset - 1)).toEqual([...records.slice(0, -1), `gap ${parts.at(-1)!.offset}-${offset - 1}`]);
    expect(await scan(offset + 5000)).toEqual([...records, `gap ${offset}-${offset + 5000}`]);
    // A head each of three records, one of them the one full of magics.
    for (const index of [1, 2, 6]) disk.corrupt('/pack', parts[index]!.offset + 45);
    const expected = [...records];
    expected[1] = `gap ${parts[1]!.offset}-${parts[2]!.endOffset}`;
    expected.splice(2, 1);
    expected[5] = `gap ${parts[6]!.offset}-${parts[6]!.endOffset}`;
    expect(await scan()).toEqual(expected);
  });
});
