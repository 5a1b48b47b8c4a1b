import { createReadStream } from 'node:fs';
import { open, realpath, rename, rm, stat as statLocal } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ClusterClient } from '../../client.ts';
import { FsError, UsageError } from '../../errors.ts';
import type { Ino } from '../../ids.ts';
import type { FileSystem, Stats } from '../../vfs/api.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { childPath, nameFields, shownName } from '../file-names.ts';
import { modeText, typeName } from '../file-types.ts';
import { listenForInterruption } from '../interruption.ts';
import { partialPath, partialPrefix } from '../partial-file.ts';
import { atPath } from '../path-errors.ts';
import { bytes, print, printJson, progress } from '../output.ts';
import { withFileSystem } from '../with-cluster.ts';

/** Copies a local file in, under a temporary name first, so that the path never shows half a file. */
export async function put(file: string, path: string, options: WhereOptions): Promise<void> {
  const source = await statLocal(file).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`cannot read ${file}: ${error.message}`, { remedy: 'Give an existing local file.' });
  });
  if (!source.isFile()) {
    throw new UsageError(`${file} is not a file`, { remedy: 'Mount the cluster to copy whole directories.' });
  }
  const interruption = listenForInterruption();
  const { signal } = interruption;
  await withFileSystem(options, `tatami put ${path}`, async (fs, client) => {
    const target = await atPath(path, () => targetPath(fs, path, basename(file)));
    const partial = partialPath(target, PUT_SUFFIX);
    const bar = progress(`put ${target}`, source.size, bytes);
    try {
      await atPath(target, async () => {
        const from = createReadStream(file, { highWaterMark: 1 << 20 });
        await pipeline(from, counting(bar.update), fs.createWriteStream(partial), { signal });
        await removeLeftOvers(fs, client, target, partial);
        await fs.chmod(partial, source.mode & 0o777);
        await fs.rename(partial, target);
      });
    } catch (error) {
      await fs.rm(partial, { force: true }).catch(() => undefined);
      throw signal.aborted ? signal.reason : error;
    } finally {
      bar.end();
    }
    print(`${target} ${bytes(source.size)}`);
  }).finally(() => interruption.end());
}

/** With the writer's process id behind it: the name of what `tatami put` has not finished. */
const PUT_SUFFIX = '.tatami-put-';
const GET_SUFFIX = '.tatami-get-';
/**
 * What has not been written to for this much longer than ours is a dead writer's: a live one's changes come at least
 * every few seconds. Both times are of the group's clock, so that it does not matter what our own says.
 */
const LEFT_OVER_AFTER_NS = 3_600_000_000_000n;
const LEFT_OVERS_AT_ONCE = 64;

/** Removes what earlier writers of the same target left when they were killed or lost the cluster. */
async function removeLeftOvers(fs: FileSystem, client: ClusterClient, target: string, own: string): Promise<void> {
  const { ino, mtimeNs } = await fs.stat(own, { bigint: true });
  const directory = await fs.stat(dirname(target));
  const prefix = Buffer.from(partialPrefix(basename(target), PUT_SUFFIX));
  const { entries } = await client.meta.query<'readdir'>({
    ...{ op: 'readdir', ino: directory.ino as Ino, after: prefix, limit: LEFT_OVERS_AT_ONCE, withAttrs: true },
  });
  for (const { name, attr } of entries) {
    if (!Buffer.from(name.subarray(0, prefix.length)).equals(prefix)) break;
    if (attr?.type !== 'file' || BigInt(attr.ino) === ino || mtimeNs - attr.mtimeNs < LEFT_OVER_AFTER_NS) continue;
    await fs.rm(childPath(dirname(target), name), { force: true });
  }
}

async function targetPath(fs: FileSystem, path: string, name: string): Promise<string> {
  const existing = await fs.stat(path).catch((error: unknown) => {
    if ((error as { code?: string }).code === 'ENOENT') return undefined;
    throw error;
  });
  if (existing?.isDirectory() === true) return `${path.replace(/\/+$/, '')}/${name}`;
  if (path.endsWith('/')) throw new FsError('ENOENT');
  await atPath(dirname(path), () => fs.stat(dirname(path)));
  return path;
}

export async function get(path: string, file: string, options: WhereOptions): Promise<void> {
  const interruption = listenForInterruption();
  const { signal } = interruption;
  await withFileSystem(options, `tatami get ${path}`, async (fs) => {
    const { size } = await atPath(path, () => fileStats(fs, path));
    if (file === '-') {
      await pipeline(fs.createReadStream(path), process.stdout, { end: false, signal });
      return;
    }
    const local = await statLocal(file).catch(() => undefined);
    // What a link leads to, a device or a pipe is written to, and not replaced by a file.
    const existing = local === undefined ? undefined : await realpath(file).catch(() => undefined);
    const target = local?.isDirectory() === true ? resolve(file, basename(path)) : (existing ?? resolve(file));
    const isDirect = local !== undefined && !local.isFile() && !local.isDirectory();
    const partial = isDirect ? target : partialPath(target, GET_SUFFIX);
    const to = await open(partial, isDirect ? 'w' : 'wx').catch((error: NodeJS.ErrnoException) => {
      throw new UsageError(`cannot write ${target}: ${error.message}`, { remedy: 'Give another local path.' });
    });
    const bar = progress(`get ${path}`, size, bytes);
    try {
      await pipeline(fs.createReadStream(path), counting(bar.update), to.createWriteStream(), { signal });
      if (!isDirect) await rename(partial, target);
    } catch (error) {
      if (!isDirect) await rm(partial, { force: true });
      throw error;
    } finally {
      bar.end();
    }
    print(`${target} ${bytes(size)}`);
  })
    .catch((error: unknown) => {
      throw signal.aborted ? signal.reason : error;
    })
    .finally(() => interruption.end());
}

async function fileStats(fs: FileSystem, path: string): Promise<Stats> {
  const stats = await fs.stat(path);
  if (stats.isDirectory()) throw new FsError('EISDIR');
  return stats;
}

function counting(update: (done: number) => void): Transform {
  let done = 0;
  return new Transform({
    transform(chunk: Uint8Array, _encoding, callback) {
      done += chunk.length;
      update(done);
      callback(null, chunk);
    },
  });
}

interface Listed {
  readonly name: Uint8Array;
  readonly stats: Stats;
}

export async function ls(path: string, options: WhereOptions & { long?: boolean; json?: boolean }): Promise<void> {
  await withFileSystem(options, 'tatami ls', async (fs) => {
    const top = await atPath(path, () => fs.lstat(path));
    const isDirectory = top.isDirectory();
    const names = isDirectory
      ? (await fs.readdir(path, 'buffer')).sort((a, b) => Buffer.compare(a, b))
      : [Buffer.from(path)];
    if (options.long !== true && options.json !== true) {
      for (const name of names) printName('', name);
      return;
    }
    const listed: Listed[] = [];
    for (const name of names) listed.push({ name, stats: isDirectory ? await fs.lstat(childPath(path, name)) : top });
    if (options.json === true) printJson(listed.map(listedJson));
    else for (const { name, stats } of listed) printName(`${longLine(stats)} `, name);
  });
}

/** As ls: a terminal gets no control characters, a pipe gets the bytes. */
function printName(before: string, name: Uint8Array): void {
  if (process.stdout.isTTY) print(`${before}${shownName(name)}`);
  else process.stdout.write(Buffer.concat([Buffer.from(before), name, Buffer.from('\n')]));
}

/** The documented shape of `tatami ls --json`. */
function listedJson({ name, stats }: Listed) {
  const { mode, uid, gid, size, mtime } = stats;
  return {
    ...nameFields('name', name),
    ...{ type: typeName(mode), mode: mode & 0o7777, uid, gid, sizeBytes: size, mtime: mtime.toISOString() },
  };
}

function longLine(stats: Stats): string {
  const time = stats.mtime.toISOString().slice(0, 16).replace('T', ' ');
  const owner = `${String(stats.uid).padStart(5)} ${String(stats.gid).padStart(5)}`;
  return `${modeText(stats.mode)} ${owner} ${String(stats.size).padStart(12)} ${time}`;
}
