/** Extents of one file or tree, in pages: for checks that are not about everything. */
import type { Ino } from '../ids.ts';
import { FILE_MAX_BYTES } from '../limits.ts';
import type { Attr, MetaClient } from '../meta/types.ts';
import type { ExtentPage } from './block-uses.ts';

const NAMES_AT_ONCE = 1_000;
const EXTENTS_AT_ONCE = 2_000;

/** Every file below `root` (or itself) once, however many names it has. */
export async function* filesBelow(meta: MetaClient, root: Attr): AsyncGenerator<Attr> {
  const linked = new Set<number>();
  // Directories still to be read; a tree is wide rather than deep, so this is what stands at most beside one path.
  const directories: Ino[] = [];
  if (root.type === 'directory') directories.push(root.ino);
  else if (root.type === 'file') yield root;
  for (let ino = directories.pop(); ino !== undefined; ino = directories.pop()) {
    for (let after = new Uint8Array(0), more = true; more;) {
      const query = { op: 'readdir', ino, after, limit: NAMES_AT_ONCE, withAttrs: true } as const;
      const page = await meta.query<'readdir'>(query);
      for (const { name, attr } of page.entries) {
        after = new Uint8Array(name);
        if (attr === undefined) continue;
        if (attr.type === 'directory') directories.push(attr.ino);
        if (attr.type !== 'file' || linked.has(attr.ino)) continue;
        if (attr.nlink > 1) linked.add(attr.ino);
        yield attr;
      }
      ({ more } = page);
    }
  }
}

/** Their extents that are blocks. */
export async function* extentsBelow(meta: MetaClient, root: Attr): AsyncGenerator<ExtentPage['items']> {
  let batch: ExtentPage['items'][number][] = [];
  for await (const { ino } of filesBelow(meta, root)) {
    for (let offset = 0, more = true; more;) {
      const lengthBytes = FILE_MAX_BYTES - offset;
      const query = { op: 'extents', ino, offset, lengthBytes, limit: EXTENTS_AT_ONCE } as const;
      // Removed since it was listed: then it needs nothing.
      const page = await meta.query<'extents'>(query).catch((error: unknown) => {
        if ((error as { code?: unknown }).code === 'ENOENT') return undefined;
        throw error;
      });
      if (page === undefined) break;
      for (const extent of page.extents) if (extent.kind === 'block') batch.push({ ino, extent });
      const last = page.extents.at(-1);
      more = page.more && last !== undefined;
      offset = last === undefined ? offset : last.offset + last.lengthBytes;
      if (batch.length >= EXTENTS_AT_ONCE) {
        yield batch;
        batch = [];
      }
    }
  }
  if (batch.length > 0) yield batch;
}
