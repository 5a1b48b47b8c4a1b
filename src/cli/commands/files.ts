import { createReadStream, createWriteStream } from 'node:fs';
import { rename, rm, stat as statLocal } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { FsError, UsageError } from '../../errors.ts';
import type { Stats } from '../../vfs/api.ts';
import type { WhereOptions } from '../cluster-files.ts';
import { childPath, nameFields, shownName } from '../file-names.ts';
import { modeText, typeName } from '../file-types.ts';
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
  await withFileSystem(options, `tatami put ${path}`, async (fs) => {
    const target = await targetPath(fs, path, basename(file));
    const partial = `${target}.tatami-put-${process.pid}`;
    const bar = progress(`put ${target}`, source.size, bytes);
    try {
      await pipeline(
        createReadStream(file, { highWaterMark: 1 << 20 }),
        counting(bar.update),
        fs.createWriteStream(partial),
      );
      await fs.chmod(partial, source.mode & 0o777);
      await fs.rename(partial, target);
    } catch (error) {
      await fs.rm(partial, { force: true }).catch(() => undefined);
      throw error;
    } finally {
      bar.end();
    }
    print(`${target} ${bytes(source.size)}`);
  });
}

async function targetPath(fs: Parameters<Parameters<typeof withFileSystem>[2]>[0], path: string, name: string) {
  const existing = await fs.stat(path).catch((error: unknown) => {
    if ((error as { code?: string }).code === 'ENOENT') return undefined;
    throw error;
  });
  if (existing?.isDirectory() === true) return `${path.replace(/\/+$/, '')}/${name}`;
  if (path.endsWith('/')) throw new FsError('ENOENT', `there is no directory ${path}`);
  return path;
}

export async function get(path: string, file: string, options: WhereOptions): Promise<void> {
  await withFileSystem(options, `tatami get ${path}`, async (fs) => {
    const { size } = await fs.stat(path);
    if (file === '-') {
      await pipeline(fs.createReadStream(path), process.stdout, { end: false });
      return;
    }
    const local = await statLocal(file).catch(() => undefined);
    const target = local?.isDirectory() === true ? resolve(file, basename(path)) : resolve(file);
    const partial = `${target}.tatami-get-${process.pid}`;
    const bar = progress(`get ${path}`, Number(size), bytes);
    try {
      await pipeline(fs.createReadStream(path), counting(bar.update), createWriteStream(partial, { flags: 'wx' }));
      await rename(partial, target);
    } catch (error) {
      await rm(partial, { force: true });
      throw error;
    } finally {
      bar.end();
    }
    print(`${target} ${bytes(Number(size))}`);
  });
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
    const top = await fs.lstat(path);
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
