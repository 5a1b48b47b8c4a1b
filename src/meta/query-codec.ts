/**
 * Results of queries as bytes: attributes hold nanoseconds beyond what msgpack's numbers carry exactly, and a listing
 * of five hundred entries is decoded on every `ls`.
 */
import type { Ino } from '../ids.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { readHeldLock, writeHeldLock } from './locks.ts';
import { readAttr, readExtent, readFileType, StoredEntry, writeAttr, writeExtent, writeFileType } from './codec.ts';
import type { Attr, Dirent, Extent, Query, QueryResults } from './types.ts';

const VERSION = 1;
const NO_NAME = new Uint8Array(0);
const writer = new ByteWriter();

type Encoder<Op extends Query['op']> = (w: ByteWriter, result: QueryResults[Op]) => void;
type Decoder<Op extends Query['op']> = (r: ByteReader) => QueryResults[Op];

interface Codec<Op extends Query['op']> {
  readonly encode: Encoder<Op>;
  readonly decode: Decoder<Op>;
}

function flag(w: ByteWriter, value: boolean): void {
  w.u8(value ? 1 : 0);
}

function readList<T>(r: ByteReader, read: () => T): T[] {
  const count = r.u32();
  const items: T[] = [];
  for (let index = 0; index < count; index++) items.push(read());
  return items;
}

const attrOnly = {
  encode: (w: ByteWriter, { attr }: { readonly attr: Attr }) => writeAttr(w, attr),
  decode: (r: ByteReader) => ({ attr: readAttr(r) }),
};

const CODECS: { readonly [Op in Query['op']]: Codec<Op> } = {
  lookup: attrOnly,
  getattr: attrOnly,
  readlink: {
    encode: (w, { target }) => w.bytes32(target),
    decode: (r) => ({ target: r.bytes32() }),
  },
  readdir: {
    encode(w, { entries, more, attr }) {
      flag(w, more);
      if (more) w.bytes16(entries.at(-1)?.name ?? NO_NAME);
      w.u32(entries.length);
      for (const entry of entries) {
        writeFileType(w.bytes16(entry.name).u53(entry.ino), entry.type);
        const isStored = entry instanceof StoredEntry;
        const own = isStored ? undefined : entry.attr;
        flag(w, isStored || own !== undefined);
        if (isStored) entry.writeAttr(w);
        else if (own !== undefined) writeAttr(w, own);
      }
      writeAttr(w, attr);
    },
    decode(r) {
      if (!r.flag()) return { ...readPage(r), more: false };
      const lastName = r.bytes16();
      return lastName.length > 0 ? new PageOfMany(lastName, r.rest()) : r.fail('more names after none');
    },
  },
  madeNext: {
    encode(w, { entries, upToIno }) {
      w.u32(entries.length);
      for (const { name, attr } of entries) writeAttr(w.bytes16(name), attr);
      w.u53(upToIno);
    },
    decode: (r) => ({ entries: readList(r, () => ({ name: r.bytes16(), attr: readAttr(r) })), upToIno: r.u53() }),
  },
  extents: {
    encode(w, { extents, more, attr }) {
      w.u32(extents.length);
      for (const extent of extents) writeExtent(w, extent);
      flag(w, more);
      writeAttr(w, attr);
    },
    decode: (r) => ({ extents: readList(r, () => readExtent(r)), more: r.flag(), attr: readAttr(r) }),
  },
  getxattr: {
    encode: (w, { value }) => w.bytes32(value),
    decode: (r) => ({ value: r.bytes32() }),
  },
  listxattr: {
    encode(w, { names }) {
      w.u32(names.length);
      for (const name of names) w.bytes16(name);
    },
    decode: (r) => ({ names: readList(r, () => r.bytes16()) }),
  },
  statfs: {
    encode: (w, { inodeCount, storedBytes }) => w.u53(inodeCount).u53(storedBytes),
    decode: (r) => ({ inodeCount: r.u53(), storedBytes: r.u53() }),
  },
  paths: {
    encode(w, { paths }) {
      w.u32(paths.length);
      for (const path of paths) w.bytes32(path);
    },
    decode: (r) => ({ paths: readList(r, () => r.bytes32()) }),
  },
  allExtents: {
    encode(w, { items, more }) {
      w.u32(items.length);
      for (const { ino, extent } of items) writeExtent(w.u53(ino), extent);
      flag(w, more);
    },
    decode(r) {
      const items = readList(r, () => ({ ino: r.u53() as Ino, extent: blockExtent(r, readExtent(r)) }));
      return { items, more: r.flag() };
    },
  },
  orphans: {
    encode(w, { inos, upToNumber }) {
      w.u32(inos.length);
      for (const ino of inos) w.u53(ino);
      w.u53(upToNumber);
    },
    decode: (r) => ({ inos: readList(r, () => r.u53() as Ino), upToNumber: r.u53() }),
  },
  locks: {
    encode(w, { files, more }) {
      w.u32(files.length);
      for (const { ino, locks } of files) {
        w.u53(ino).u32(locks.length);
        for (const lock of locks) {
          writeHeldLock(w, lock);
          w.text(lock.label);
        }
      }
      flag(w, more);
    },
    decode(r) {
      const files = readList(r, () => ({
        ino: r.u53() as Ino,
        locks: readList(r, () => ({ ...readHeldLock(r), label: r.text() })),
      }));
      return { files, more: r.flag() };
    },
  },
  changes: {
    encode(w, { inos, names, upToSeq, missed }) {
      w.u32(inos.length);
      for (const ino of inos) w.u53(ino);
      w.u32(names.length);
      for (const { parent, name } of names) w.u53(parent).bytes16(name);
      flag(w.u53(upToSeq), missed);
    },
    decode: (r) => ({
      inos: readList(r, () => r.u53() as Ino),
      names: readList(r, () => ({ parent: r.u53() as Ino, name: r.bytes16() })),
      upToSeq: r.u53(),
      missed: r.flag(),
    }),
  },
};

function blockExtent(r: ByteReader, extent: Extent): Extent & { kind: 'block' } {
  return extent.kind === 'block' ? extent : r.fail('an extent is not of a block');
}

type Page = Pick<QueryResults['readdir'], 'entries' | 'attr'>;

function readPage(r: ByteReader): Page {
  const entries = readList(r, (): Dirent & { attr?: Attr } => {
    const name = r.bytes16();
    const ino = r.u53() as Ino;
    const type = readFileType(r);
    return r.flag() ? { name, ino, type, attr: readAttr(r) } : { name, ino, type };
  });
  return { entries, attr: readAttr(r) };
}

/** Read when it is first looked at; the question for the next page can be on its way by then. FormatError as above, but then. */
class PageOfMany {
  readonly more = true;
  readonly lastName: Uint8Array;
  readonly #bytes: Uint8Array;
  #page: Page | undefined;

  constructor(lastName: Uint8Array, bytes: Uint8Array) {
    this.lastName = lastName;
    this.#bytes = bytes;
  }

  get entries(): Page['entries'] {
    return this.#read().entries;
  }
  get attr(): Attr {
    return this.#read().attr;
  }

  #read(): Page {
    if (this.#page !== undefined) return this.#page;
    const r = new ByteReader(this.#bytes, 'the result of readdir');
    const page = readPage(r);
    r.end();
    if (Buffer.compare(page.entries.at(-1)?.name ?? NO_NAME, this.lastName) !== 0) r.fail('its last name is another');
    return (this.#page = page);
  }
}

export function encodeQueryResult<Op extends Query['op']>(op: Op, result: QueryResults[Op]): Uint8Array {
  writer.reset().u8(VERSION);
  CODECS[op].encode(writer, result);
  return writer.finish();
}

/** Throws FormatError for what is not a whole, well-formed result of that query. Byte fields are views of `bytes`. */
export function decodeQueryResult<Op extends Query['op']>(op: Op, bytes: Uint8Array): QueryResults[Op] {
  const r = new ByteReader(bytes, `the result of ${op}`);
  r.version(VERSION);
  const result = CODECS[op].decode(r);
  r.end();
  return result;
}
