/** Messages to the kernel that answer nothing: unique is 0, the header's error field holds the code. */
import { encodeHeader } from './codec-reply.ts';
import { NotifyCode, OUT_HEADER_BYTES } from './protocol.ts';
import { setU64 } from './wire.ts';

/** FUSE_EXPIRE_ONLY: a program that is in such a directory goes on to know its path. */
const EXPIRE_ONLY = 1;

function message(code: number, bodyBytes: number): { bytes: Buffer; view: DataView } {
  const bytes = Buffer.alloc(OUT_HEADER_BYTES + bodyBytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  encodeHeader(view, bytes.length, code, 0);
  return { bytes, view };
}

/** Drops the cached attributes and, from `offset` on (`lengthBytes` <= 0: to the end), the pages. A negative offset drops attributes only. */
export function encodeInvalidateInode(ino: number, offset = 0, lengthBytes = 0): Buffer {
  const { bytes, view } = message(NotifyCode.INVAL_INODE, 24);
  setU64(view, 16, ino);
  view.setBigInt64(24, BigInt(offset), true);
  view.setBigInt64(32, BigInt(lengthBytes), true);
  return bytes;
}

/** Drops the cached attributes alone. */
export function encodeInvalidateAttributes(ino: number): Buffer {
  return encodeInvalidateInode(ino, -1);
}

/** The next use of a cached name asks for it. A kernel before FUSE_MINOR_EXPIRE_ONLY drops it. */
export function encodeInvalidateEntry(parent: number, name: Uint8Array): Buffer {
  const { bytes, view } = message(NotifyCode.INVAL_ENTRY, 16 + name.length + 1);
  setU64(view, 16, parent);
  view.setUint32(24, name.length, true);
  view.setUint32(28, EXPIRE_ONLY, true);
  bytes.set(name, 32);
  return bytes;
}

/** Tells that `name` is gone from `parent`: as invalidating, and watchers (inotify) hear of it. */
export function encodeDelete(parent: number, child: number, name: Uint8Array): Buffer {
  const { bytes, view } = message(NotifyCode.DELETE, 24 + name.length + 1);
  setU64(view, 16, parent);
  setU64(view, 24, child);
  view.setUint32(32, name.length, true);
  bytes.set(name, 40);
  return bytes;
}

/** What goes before `data`, which becomes the content of the file from `offset` on. */
export function encodeStore(ino: number, offset: number, data: readonly Uint8Array[]): Buffer {
  const { bytes, view } = message(NotifyCode.STORE, 24);
  let dataBytes = 0;
  for (const { length } of data) dataBytes += length;
  view.setUint32(0, bytes.length + dataBytes, true);
  setU64(view, 16, ino);
  setU64(view, 24, offset);
  view.setUint32(32, dataBytes, true);
  return bytes;
}
