/**
 * An exclusive lock on a file that dies with the process, however it dies.
 *
 * Node offers no flock(2). But flock locks belong to the open file description, which a child inherits together with
 * the descriptor: so flock(1) (util-linux, on every Linux machine) takes the lock on our descriptor, exits, and we hold
 * it for as long as the descriptor is open. It also holds between network namespaces, where an abstract socket, the
 * usual substitute, would not.
 */
import { spawn } from 'node:child_process';
import { promises as fsp } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { FsError, TatamiError } from '../errors.ts';

/** Exit code of flock(1) when another has the lock; chosen by us to tell it from its own failures. */
const TAKEN = 75;
/** A holder that releases removes the file; one that waits for the same name may then hold a file that is gone. */
const ATTEMPTS = 20;

/** Throws FsError EBUSY, with `info.pid` of the holder if it is known. */
export async function takeLock(path: string): Promise<{ release(): Promise<void> }> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const handle = await fsp.open(path, 'a+', 0o644);
    try {
      if (!(await flock(handle.fd))) throw await busy(path, handle);
      if (await isStillAt(path, handle)) {
        await handle.truncate(0);
        await handle.write(`${process.pid}\n`, 0);
        return { release: releaser(path, handle) };
      }
    } catch (error) {
      await handle.close();
      throw error;
    }
    await handle.close();
  }
  throw new FsError('EBUSY', `${path} is taken and released by others all the time`);
}

function releaser(path: string, handle: FileHandle): () => Promise<void> {
  let released: Promise<void> | undefined;
  const release = async (): Promise<void> => {
    // Removed while still locked: whoever has it open already finds that it is no longer there and tries anew.
    if (await isStillAt(path, handle)) await fsp.rm(path, { force: true });
    await handle.close();
  };
  return () => (released ??= release());
}

function flock(fd: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const child = spawn('flock', ['-x', '-n', '-E', String(TAKEN), '3'], {
      // Nothing is written to /dev/null: there are machines on which only root may.
      stdio: ['ignore', 'pipe', 'pipe', fd],
    });
    let message = '';
    child.stdout?.resume();
    child.stderr?.on('data', (chunk: Buffer) => (message += chunk.toString()));
    child.on('error', (cause: NodeJS.ErrnoException) => {
      const remedy =
        cause.code === 'ENOENT'
          ? 'Install the package util-linux, which has the program flock.'
          : 'It must be possible for this user to start programs.';
      reject(new TatamiError('ERR_NO_FLOCK', `flock could not be run: ${cause.message}`, { cause, remedy }));
    });
    child.on('close', (code) => {
      if (code === 0) resolve(true);
      else if (code === TAKEN) resolve(false);
      else reject(new TatamiError('ERR_LOCK', `flock failed (${code ?? 'killed'}): ${message.trim()}`));
    });
  });
}

async function isStillAt(path: string, handle: FileHandle): Promise<boolean> {
  const ours = await handle.stat();
  try {
    const there = await fsp.stat(path);
    return there.dev === ours.dev && there.ino === ours.ino;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

async function busy(path: string, handle: FileHandle): Promise<FsError> {
  const buffer = Buffer.alloc(32);
  const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
  const pid = Number.parseInt(buffer.toString('latin1', 0, bytesRead), 10);
  const known = Number.isSafeInteger(pid) && pid > 0;
  return new FsError('EBUSY', `${path} is locked by ${known ? `process ${pid}` : 'another process'}`, {
    remedy: 'Stop that process first, or use another directory.',
    ...(known ? { info: { pid } } : {}),
  });
}
