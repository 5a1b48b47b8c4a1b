/** Checks queries that come from the wire. */
import { z } from 'zod';
import { FormatError } from '../errors.ts';
import type { Query } from './types.ts';

const ino = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const size = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const name = z.instanceof(Uint8Array);
const limit = z.number().int().min(1).max(10_000);

const querySchema = z.discriminatedUnion('op', [
  z.object({ op: z.literal('lookup'), parent: ino, name }),
  z.object({ op: z.literal('getattr'), ino }),
  z.object({ op: z.literal('readlink'), ino }),
  z.object({ op: z.literal('readdir'), ino, after: name, limit, withAttrs: z.boolean() }),
  z.object({ op: z.literal('extents'), ino, offset: size, lengthBytes: size, limit }),
  z.object({ op: z.literal('getxattr'), ino, name }),
  z.object({ op: z.literal('listxattr'), ino }),
  z.object({ op: z.literal('statfs') }),
  z.object({ op: z.literal('paths'), ino }),
  z.object({ op: z.literal('allExtents'), afterIno: size, afterOffset: size, limit }),
]);

/** Throws FormatError. */
export function parseQuery(value: unknown): Query {
  const parsed = querySchema.safeParse(value);
  if (!parsed.success) throw new FormatError(`not a query: ${parsed.error.issues[0]?.message ?? ''}`);
  return parsed.data as Query;
}
