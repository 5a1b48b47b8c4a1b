/** The API against node:fs/promises on a real directory: the same calls, the same results, the same errors. */
import { promises as node } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FileSystem } from './api.ts';
import { pattern, TestCluster } from './testing.ts';

/** What both have; arguments as used below. */
interface Common {
  readFile(path: string, options?: unknown): Promise<unknown>;
  writeFile(path: string, data: unknown, options?: unknown): Promise<unknown>;
  appendFile(path: string, data: unknown): Promise<unknown>;
  open(path: string, flags?: string | number, mode?: number): Promise<CommonHandle>;
  stat(path: string): Promise<CommonStats>;
  lstat(path: string): Promise<CommonStats>;
  readdir(path: string, options?: unknown): Promise<unknown[]>;
  mkdir(path: string, options?: unknown): Promise<unknown>;
  rm(path: string, options?: unknown): Promise<unknown>;
  rmdir(path: string): Promise<unknown>;
  unlink(path: string): Promise<unknown>;
  rename(from: string, to: string): Promise<unknown>;
  link(from: string, to: string): Promise<unknown>;
  symlink(target: string, path: string): Promise<unknown>;
  readlink(path: string): Promise<unknown>;
  realpath(path: string): Promise<string>;
  chmod(path: string, mode: number): Promise<unknown>;
  utimes(path: string, atime: number | Date, mtime: number | Date): Promise<unknown>;
  truncate(path: string, length?: number): Promise<unknown>;
  access(path: string, mode?: number): Promise<unknown>;
  copyFile(from: string, to: string, mode?: number): Promise<unknown>;
  cp(from: string, to: string, options?: unknown): Promise<unknown>;
}
interface CommonStats {
  readonly size: number;
  readonly mode: number;
  readonly nlink: number;
  readonly mtimeMs: number;
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
}
interface CommonHandle {
  read(...args: unknown[]): Promise<{ bytesRead: number; buffer: Uint8Array }>;
  write(...args: unknown[]): Promise<{ bytesWritten: number }>;
  readFile(options?: unknown): Promise<unknown>;
  writeFile(data: unknown): Promise<unknown>;
  stat(): Promise<CommonStats>;
  truncate(length?: number): Promise<unknown>;
  sync(): Promise<unknown>;
  datasync(): Promise<unknown>;
  close(): Promise<unknown>;
}

const stats = (value: CommonStats): unknown => ({
  size: value.isFile() || value.isSymbolicLink() ? value.size : 0,
  mode: value.mode,
  nlink: value.isFile() ? value.nlink : 0,
  kinds: [value.isFile(), value.isDirectory(), value.isSymbolicLink()],
});

/** Each is run in a fresh directory `d` that holds file (text 'content'), dir/inner, link -> file, loop -> loop, dangling -> none. */
const CALLS: Readonly<Record<string, (fs: Common, d: string) => Promise<unknown>>> = {
  'readFile text': (fs, d) => fs.readFile(`${d}/file`, 'utf8'),
  'readFile bytes': (fs, d) => fs.readFile(`${d}/file`),
  'readFile hex option': (fs, d) => fs.readFile(`${d}/file`, { encoding: 'hex' }),
  'readFile missing': (fs, d) => fs.readFile(`${d}/none`),
  'readFile directory': (fs, d) => fs.readFile(`${d}/dir`),
  'readFile below a file': (fs, d) => fs.readFile(`${d}/file/x`),
  'readFile with slash': (fs, d) => fs.readFile(`${d}/file/`),
  'readFile loop': (fs, d) => fs.readFile(`${d}/loop`),
  'readFile dangling': (fs, d) => fs.readFile(`${d}/dangling`),
  'readFile through link': (fs, d) => fs.readFile(`${d}/link`, 'utf8'),
  'readFile through dots': (fs, d) => fs.readFile(`${d}/dir/../dir/./inner`, 'utf8'),
  'readFile empty path': (fs) => fs.readFile(''),
  'readFile zero byte': (fs, d) => fs.readFile(`${d}/a\0b`).catch((error: { code: string }) => error.code),
  'readFile name too long': (fs, d) => fs.readFile(`${d}/${'x'.repeat(256)}`),
  'writeFile directory': (fs, d) => fs.writeFile(`${d}/dir`, 'x'),
  'writeFile exclusive': (fs, d) => fs.writeFile(`${d}/file`, 'x', { flag: 'wx' }),
  'writeFile exclusive on dangling link': (fs, d) => fs.writeFile(`${d}/dangling`, 'x', { flag: 'wx' }),
  'writeFile through dangling link': async (fs, d) => {
    await fs.writeFile(`${d}/dangling`, 'made');
    return fs.readFile(`${d}/none`, 'utf8');
  },
  'writeFile new with slash': (fs, d) => fs.writeFile(`${d}/new/`, 'x'),
  'writeFile in missing directory': (fs, d) => fs.writeFile(`${d}/no/new`, 'x'),
  'writeFile truncates, mode': async (fs, d) => {
    await fs.writeFile(`${d}/file`, 'n', { mode: 0o600 });
    await fs.writeFile(`${d}/other`, Buffer.from('bytes'), { mode: 0o640 });
    return [
      await fs.readFile(`${d}/file`, 'utf8'),
      stats(await fs.stat(`${d}/file`)),
      stats(await fs.stat(`${d}/other`)),
    ];
  },
  'writeFile iterable': async (fs, d) => {
    await fs.writeFile(`${d}/it`, ['a', 'b', 'c']);
    return fs.readFile(`${d}/it`, 'utf8');
  },
  appendFile: async (fs, d) => {
    await fs.appendFile(`${d}/file`, '+1');
    await fs.appendFile(`${d}/fresh`, 'x');
    return [await fs.readFile(`${d}/file`, 'utf8'), await fs.readFile(`${d}/fresh`, 'utf8')];
  },
  'open bad flags': (fs, d) => fs.open(`${d}/file`, 'q').catch((error: { code: string }) => error.code),
  'open directory to write': (fs, d) => fs.open(`${d}/dir`, 'r+'),
  'handle positions': async (fs, d) => {
    const file = await fs.open(`${d}/file`, 'r+');
    const first = await file.read(Buffer.alloc(3), 0, 3, null);
    await file.write(Buffer.from('XY'), 0, 2, null);
    await file.write('Z', 0);
    const second = await file.read({ buffer: Buffer.alloc(4), position: 1 });
    const rest = await file.readFile('utf8');
    await file.truncate(6);
    const { size } = await file.stat();
    await file.sync();
    await file.datasync();
    await file.close();
    return [
      Buffer.from(first.buffer).toString(),
      second.bytesRead,
      Buffer.from(second.buffer).toString(),
      rest,
      size,
      await fs.readFile(`${d}/file`, 'utf8'),
    ];
  },
  'handle append ignores position': async (fs, d) => {
    const file = await fs.open(`${d}/file`, 'a');
    await file.write(Buffer.from('end'), 0, 3, 0);
    await file.close();
    return fs.readFile(`${d}/file`, 'utf8');
  },
  'handle write-only read': async (fs, d) => {
    const file = await fs.open(`${d}/file`, 'a');
    try {
      return await file.read(Buffer.alloc(1), 0, 1, 0);
    } finally {
      await file.close();
    }
  },
  'handle read-only write': async (fs, d) => {
    const file = await fs.open(`${d}/file`, 'r');
    try {
      return await file.write(Buffer.from('x'));
    } finally {
      await file.close();
    }
  },
  'handle sparse': async (fs, d) => {
    const file = await fs.open(`${d}/sparse`, 'w+');
    await file.write(Buffer.from('far'), 0, 3, 200_000);
    const { bytesRead, buffer } = await file.read(Buffer.alloc(10), 0, 10, 199_996);
    await file.close();
    return [bytesRead, Buffer.from(buffer).toString('hex')];
  },
  'unlinked but open': async (fs, d) => {
    const file = await fs.open(`${d}/file`, 'r');
    await fs.unlink(`${d}/file`);
    const text = await file.readFile('utf8');
    await file.close();
    return [text, await fs.readdir(d).then((names) => names.includes('file'))];
  },
  'stat file': async (fs, d) => stats(await fs.stat(`${d}/file`)),
  'stat dir': async (fs, d) => stats(await fs.stat(`${d}/dir`)),
  'stat link': async (fs, d) => stats(await fs.stat(`${d}/link`)),
  'lstat link': async (fs, d) => stats(await fs.lstat(`${d}/link`)),
  'lstat link with slash': (fs, d) => fs.lstat(`${d}/link/`),
  'stat missing': (fs, d) => fs.stat(`${d}/none`),
  'stat loop': (fs, d) => fs.stat(`${d}/loop`),
  'stat below dangling': (fs, d) => fs.stat(`${d}/dangling/x`),
  readdir: async (fs, d) => (await fs.readdir(d)).sort(),
  'readdir types': async (fs, d) =>
    (
      (await fs.readdir(d, { withFileTypes: true })) as {
        name: string;
        isDirectory(): boolean;
        isSymbolicLink(): boolean;
      }[]
    )
      .map((entry) => [entry.name, entry.isDirectory(), entry.isSymbolicLink()])
      .sort(),
  'readdir recursive': async (fs, d) => (await fs.readdir(d, { recursive: true })).sort(),
  'readdir buffers': async (fs, d) => (await fs.readdir(d, 'buffer')).map(String).sort(),
  'readdir file': (fs, d) => fs.readdir(`${d}/file`),
  'readdir missing': (fs, d) => fs.readdir(`${d}/none`),
  'mkdir exists': (fs, d) => fs.mkdir(`${d}/dir`),
  'mkdir on file': (fs, d) => fs.mkdir(`${d}/file`),
  'mkdir missing parent': (fs, d) => fs.mkdir(`${d}/a/b`),
  'mkdir with slash and mode': async (fs, d) => {
    await fs.mkdir(`${d}/made/`, 0o700);
    return stats(await fs.stat(`${d}/made`));
  },
  'mkdir recursive': async (fs, d) => [
    ((await fs.mkdir(`${d}/a/b/c`, { recursive: true })) as string).slice(d.length),
    await fs.mkdir(`${d}/a/b/c`, { recursive: true }),
  ],
  'mkdir recursive on file': (fs, d) => fs.mkdir(`${d}/file`, { recursive: true }),
  'mkdir recursive below file': (fs, d) => fs.mkdir(`${d}/file/x/y`, { recursive: true }),
  'rmdir full': (fs, d) => fs.rmdir(`${d}/dir`),
  'rmdir file': (fs, d) => fs.rmdir(`${d}/file`),
  'rmdir missing': (fs, d) => fs.rmdir(`${d}/none`),
  'rm missing': (fs, d) => fs.rm(`${d}/none`),
  'rm missing force': (fs, d) => fs.rm(`${d}/none`, { force: true }),
  'rm directory': (fs, d) => fs.rm(`${d}/dir`).catch((error: { code: string }) => error.code),
  'rm recursive': async (fs, d) => {
    await fs.rm(`${d}/dir`, { recursive: true });
    await fs.rm(`${d}/link`);
    return (await fs.readdir(d)).sort();
  },
  'unlink missing': (fs, d) => fs.unlink(`${d}/none`),
  'unlink directory': (fs, d) => fs.unlink(`${d}/dir`),
  'rename over': async (fs, d) => {
    await fs.rename(`${d}/file`, `${d}/dir/inner`);
    return [await fs.readFile(`${d}/dir/inner`, 'utf8'), (await fs.readdir(d)).sort()];
  },
  'rename missing': (fs, d) => fs.rename(`${d}/none`, `${d}/x`),
  'rename file over directory': (fs, d) => fs.rename(`${d}/file`, `${d}/dir`),
  'rename directory over file': (fs, d) => fs.rename(`${d}/dir`, `${d}/file`),
  'rename into itself': (fs, d) => fs.rename(`${d}/dir`, `${d}/dir/sub`),
  'rename over full directory': async (fs, d) => {
    await fs.mkdir(`${d}/dir2`);
    await fs.rename(`${d}/dir2`, `${d}/dir`);
  },
  link: async (fs, d) => {
    await fs.link(`${d}/file`, `${d}/hard`);
    await fs.appendFile(`${d}/hard`, '!');
    return [await fs.readFile(`${d}/file`, 'utf8'), (await fs.stat(`${d}/file`)).nlink];
  },
  'link exists': (fs, d) => fs.link(`${d}/file`, `${d}/link`),
  'link directory': (fs, d) => fs.link(`${d}/dir`, `${d}/hard`),
  'symlink and readlink': async (fs, d) => {
    await fs.symlink('../x/y', `${d}/new`);
    return fs.readlink(`${d}/new`);
  },
  'symlink exists': (fs, d) => fs.symlink('x', `${d}/file`),
  'readlink file': (fs, d) => fs.readlink(`${d}/file`),
  'realpath link': async (fs, d) => (await fs.realpath(`${d}/dir/../link`)).slice(d.length),
  'realpath missing': (fs, d) => fs.realpath(`${d}/none`),
  chmod: async (fs, d) => {
    await fs.chmod(`${d}/link`, 0o751);
    return stats(await fs.stat(`${d}/file`));
  },
  'chmod to a text': async (fs, d) => {
    const codes = [];
    for (const mode of ['751', '0o640', '64x', ''] as unknown as number[]) {
      const set = Promise.resolve().then(() => fs.chmod(`${d}/file`, mode));
      codes.push(await set.catch((error: { code: string }) => error.code));
    }
    return [codes, stats(await fs.stat(`${d}/file`))];
  },
  'chmod missing': (fs, d) => fs.chmod(`${d}/none`, 0o600),
  utimes: async (fs, d) => {
    await fs.utimes(`${d}/file`, 1000.5, new Date(2_000_000));
    return (await fs.stat(`${d}/file`)).mtimeMs;
  },
  'write of a range that the buffer does not have': async (fs, d) => {
    const file = await fs.open(`${d}/file`, 'r+');
    const codes = [];
    for (const [offset, length] of [
      [-2, undefined],
      [0, 4],
      [1, -1],
      [4, undefined],
    ]) {
      const written = file.write(Buffer.from('XYZ'), offset, length, 0);
      codes.push(
        await written.then(
          ({ bytesWritten }) => bytesWritten,
          (error: { code: string }) => error.code,
        ),
      );
    }
    await file.close();
    return [codes, await fs.readFile(`${d}/file`, 'utf8')];
  },
  'truncate through what is open for reading': async (fs, d) => {
    const file = await fs.open(`${d}/file`, 'r');
    try {
      await file.truncate(0);
    } finally {
      await file.close();
    }
  },
  'truncate shorter and longer': async (fs, d) => {
    await fs.truncate(`${d}/file`, 3);
    await fs.truncate(`${d}/file`, 5);
    return fs.readFile(`${d}/file`, 'latin1');
  },
  'truncate missing': (fs, d) => fs.truncate(`${d}/none`, 3),
  'truncate directory': (fs, d) => fs.truncate(`${d}/dir`, 3),
  'access file': (fs, d) => fs.access(`${d}/file`),
  'access missing': (fs, d) => fs.access(`${d}/none`),
  copyFile: async (fs, d) => {
    await fs.copyFile(`${d}/file`, `${d}/copy`);
    return fs.readFile(`${d}/copy`, 'utf8');
  },
  'copyFile exclusive': (fs, d) => fs.copyFile(`${d}/file`, `${d}/link`, 1),
  'copyFile missing': (fs, d) => fs.copyFile(`${d}/none`, `${d}/copy`),
  'cp recursive': async (fs, d) => {
    await fs.cp(`${d}/dir`, `${d}/dir2`, { recursive: true });
    return fs.readFile(`${d}/dir2/inner`, 'utf8');
  },
};

/** The result, or the error's visible parts with the directory's name taken out. */
async function outcome(call: (fs: Common, d: string) => Promise<unknown>, fs: Common, d: string): Promise<unknown> {
  try {
    return { value: await call(fs, d) };
  } catch (error) {
    const { code, errno, syscall, path, dest, message } = error as Record<string, unknown>;
    const plain = (text: unknown): unknown => (typeof text === 'string' ? text.replaceAll(d, 'D') : text);
    return { code, errno, syscall, path: plain(path), dest: plain(dest), message: plain(message) };
  }
}

async function prepare(fs: Common, d: string): Promise<void> {
  await fs.mkdir(d);
  await fs.writeFile(`${d}/file`, 'content');
  await fs.mkdir(`${d}/dir`);
  await fs.writeFile(`${d}/dir/inner`, 'inside');
  await fs.symlink('file', `${d}/link`);
  await fs.symlink('loop', `${d}/loop`);
  await fs.symlink('none', `${d}/dangling`);
}

describe('calls as of node:fs/promises', () => {
  let real = '';
  let ours: FileSystem;
  beforeAll(async () => {
    real = await mkdtemp(join(tmpdir(), 'tatami-api-'));
    const cluster = await TestCluster.start();
    ours = new FileSystem((await cluster.mount()).vfs, {
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      umask: process.umask(),
    });
  });
  afterAll(async () => {
    await rm(real, { recursive: true });
  });

  for (const [index, [title, call]] of Object.entries(CALLS).entries()) {
    it(title, async () => {
      const theirs = `${real}/${index}`;
      const mine = `/${index}`;
      await prepare(node, theirs);
      await prepare(ours, mine);
      const expected = await outcome(call, node, theirs);
      expect(await outcome(call, ours as unknown as Common, mine)).toEqual(expected);
    });
  }
});

describe('streams', () => {
  it('carry whole files and ranges', async () => {
    const cluster = await TestCluster.start();
    const fs = new FileSystem((await cluster.mount()).vfs);
    const data = pattern(900_000, 1);
    await pipeline(
      [data.subarray(0, 300_000), data.subarray(300_000)],
      fs.createWriteStream('/f', { highWaterMark: 1000 }),
    );
    const parts: Buffer[] = [];
    for await (const part of fs.createReadStream('/f', { highWaterMark: 50_000 })) parts.push(part as Buffer);
    expect(Buffer.concat(parts).equals(data)).toBe(true);
    const range: Buffer[] = [];
    for await (const part of fs.createReadStream('/f', { start: 100, end: 65_700 })) range.push(part as Buffer);
    expect(Buffer.concat(range).equals(data.subarray(100, 65_701))).toBe(true);
    let text = '';
    for await (const part of fs.createReadStream('/f', 'hex')) text += part as string;
    expect(text).toBe(data.toString('hex'));
    await expect(pipeline(fs.createReadStream('/none'), fs.createWriteStream('/g'))).rejects.toMatchObject({
      code: 'ENOENT',
    });
    const file = await fs.open('/f');
    const web: Uint8Array[] = [];
    for await (const part of file.readableWebStream()) web.push(part as Uint8Array);
    expect(Buffer.concat(web).equals(data)).toBe(true);
    await file.close();
    await fs.close();
  });

  it('give an open directory entry by entry', async () => {
    const cluster = await TestCluster.start();
    const fs = new FileSystem((await cluster.mount()).vfs);
    await fs.writeFile('/a', '');
    await fs.mkdir('/b');
    const names: string[] = [];
    for await (const entry of await fs.opendir('/')) names.push(`${entry.name} ${entry.isDirectory()}`);
    expect(names).toEqual(['a false', 'b true']);
    await fs.setxattr('/a', 'user.k', 'v');
    expect((await fs.getxattr('/a', 'user.k')).toString()).toBe('v');
    expect(await fs.listxattr('/a')).toEqual(['user.k']);
    expect((await fs.stat('/a', { bigint: true })).mtimeNs).toBeTypeOf('bigint');
    expect((await fs.statfs('/')).bsize).toBe(4096);
    expect(await fs.readdir(Buffer.from('/'))).toEqual(['a', 'b']);
  });
});

it('a tree is not copied into itself, by whatever path', async () => {
  const fs = new FileSystem((await (await TestCluster.start()).mount()).vfs);
  await fs.mkdir('/tree/below', { recursive: true });
  await fs.symlink('/tree', '/link');
  for (const target of ['/tree/new', '/./tree/new', '/link/new', '/tree/below/../new/deeper', '//tree/below']) {
    await expect(fs.cp('/link/', target, { recursive: true })).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(fs.cp('/tree', target, { recursive: true })).rejects.toMatchObject({ code: 'EINVAL' });
  }
  await expect(fs.cp('/', '/new', { recursive: true })).rejects.toMatchObject({ code: 'EINVAL' });
  expect(await fs.readdir('/tree', { recursive: true })).toEqual(['below']);
  await fs.cp('/tree', '/link2', { recursive: true });
  expect(await fs.readdir('/link2')).toEqual(['below']);
});
