/**
 * What a process sees of its disk and network until it dies. In one real process nothing can stop the code of a simulated
 * one that was killed: so from its death on nothing it waits for ever comes, and nothing it does has an effect.
 */
import type { Clock, Disk, DiskFile, Env, Kv, Transport } from '../env.ts';

export interface Life {
  dead: boolean;
}

/** A new one each time: one for all would keep alive, by what waits for it, every process that ever died. */
const never = (): Promise<never> => new Promise(() => {});

/** The result as long as the process lives. */
function alive<T>(life: Life, start: () => Promise<T>): Promise<T> {
  if (life.dead) return never();
  return new Promise((resolve, reject) => {
    start().then(
      (value) => {
        if (!life.dead) resolve(value);
      },
      (error: unknown) => {
        if (!life.dead) reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}

/** A world that ends with `life.dead = true`. Open connections are the network's to end (MemoryNetwork.killHost). */
export function mortalEnv(env: Env, life: Life): Env {
  return {
    clock: mortalClock(env.clock, life),
    random: env.random,
    disk: mortalDisk(env.disk, life),
    transport: mortalTransport(env.transport, life),
    bootId: env.bootId,
    ...(env.hold === undefined ? {} : { hold: env.hold }),
  };
}

function mortalClock(clock: Clock, life: Life): Clock {
  return {
    monotonicMs: () => clock.monotonicMs(),
    wallNs: () => clock.wallNs(),
    setTimer: (delayMs, callback) =>
      clock.setTimer(delayMs, () => {
        if (!life.dead) callback();
      }),
    sleep: (delayMs, signal) => alive(life, () => clock.sleep(delayMs, signal)),
  };
}

/** `writesNow`: its files have `writeNow`, as a real disk's have. */
export function mortalDisk(disk: Disk, life: Life, { writesNow = false } = {}): Disk {
  return {
    open: async (path, mode) => mortalFile(await alive(life, () => disk.open(path, mode)), life, writesNow),
    readFile: (path) => alive(life, () => disk.readFile(path)),
    writeFileAtomic: (path, data, mode) => alive(life, () => disk.writeFileAtomic(path, data, mode)),
    readdir: (path) => alive(life, () => disk.readdir(path)),
    exists: (path) => alive(life, () => disk.exists(path)),
    mkdir: (path, mode) => alive(life, () => disk.mkdir(path, mode)),
    unlink: (path) => alive(life, () => disk.unlink(path)),
    rename: (from, to) => alive(life, () => disk.rename(from, to)),
    remove: (path) => alive(life, () => disk.remove(path)),
    syncDir: (path) => alive(life, () => disk.syncDir(path)),
    space: (path) => alive(life, () => disk.space(path)),
    lock: async (path) => {
      const lock = await alive(life, () => disk.lock(path));
      return { release: () => alive(life, () => lock.release()) };
    },
    openKv: async (path, options) => mortalKv(await alive(life, () => disk.openKv(path, options)), life),
  };
}

function mortalFile(file: DiskFile, life: Life, writesNow: boolean): DiskFile {
  const writeNow = (data: Uint8Array, position: number): void => {
    if (!life.dead) file.writeNow?.(data, position);
  };
  return {
    ...(writesNow && file.writeNow !== undefined ? { writeNow } : {}),
    read: (buffer, position) => alive(life, () => file.read(buffer, position)),
    write: (buffers, position) => alive(life, () => file.write(buffers, position)),
    datasync: () => alive(life, () => file.datasync()),
    truncate: (sizeBytes) => alive(life, () => file.truncate(sizeBytes)),
    sizeBytes: () => alive(life, () => file.sizeBytes()),
    close: () => alive(life, () => file.close()),
  };
}

function mortalKv(kv: Kv, life: Life): Kv {
  return {
    // A synchronous read cannot be made to wait; nobody hears of what a dead process makes of it.
    get: (key) => (life.dead ? undefined : kv.get(key)),
    batch: (ops, options) => alive(life, () => kv.batch(ops, options)),
    scan: (range) => mortalRows(kv.scan(range), life),
    scanPages: (range) => mortalRows(kv.scanPages(range), life),
    close: () => alive(life, () => kv.close()),
  };
}

async function* mortalRows<T>(rows: AsyncIterable<T>, life: Life): AsyncGenerator<T> {
  if (life.dead) await never();
  for await (const row of rows) {
    if (life.dead) await never();
    yield row;
  }
}

/** Open connections are the network's to end (MemoryNetwork.killHost). */
export function mortalTransport(transport: Transport, life: Life): Transport {
  return {
    listen: (address, onConnection) => alive(life, () => transport.listen(address, onConnection)),
    connect: (address, timeoutMs) => alive(life, () => transport.connect(address, timeoutMs)),
    datagram: (address, options) => alive(life, () => transport.datagram(address, options)),
  };
}
