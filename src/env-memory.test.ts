import { describe, expect, it } from 'vitest';
import type { Random } from './env.ts';
import { MemoryDisk, MemoryKv, MemoryNetwork } from './env-memory.ts';

const ascii = (text: string): Uint8Array => Buffer.from(text, 'latin1');
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

/** Chance that always falls the same way. */
const always = (value: number): Random => ({
  below: (bound) => Math.min(value, bound - 1),
  bytes: (n) => new Uint8Array(n),
});
/** Falls alternately. */
const alternating = (): Random => {
  let next = 0;
  return { below: (bound) => next++ % bound, bytes: (n) => new Uint8Array(n) };
};

async function diskWith(content: Record<string, string>): Promise<MemoryDisk> {
  const disk = new MemoryDisk();
  await disk.mkdir('/d');
  for (const [name, value] of Object.entries(content)) await disk.writeFileAtomic(`/d/${name}`, ascii(value));
  return disk;
}

describe('a crash of a MemoryDisk', () => {
  it('keeps what was synced and loses the rest', async () => {
    const disk = await diskWith({ old: 'old' });
    const file = await disk.open('/d/old', 'write');
    await file.write([ascii('synced')], 0);
    await file.datasync();
    await file.write([ascii('LOST')], 0);
    await (await disk.open('/d/new', 'create')).datasync();
    disk.crash();
    expect(await disk.readdir('/d')).toEqual(['old']);
    expect(text(await disk.readFile('/d/old'))).toBe('synced');
    await expect(file.write([ascii('x')], 0)).rejects.toMatchObject({ code: 'EIO' });
  });

  it('may keep anything that was not synced', async () => {
    const disk = await diskWith({ old: 'old' });
    const file = await disk.open('/d/old', 'write');
    await file.write([ascii('kept now')], 0);
    await disk.open('/d/new', 'create');
    disk.crash({ random: always(1) });
    expect(await disk.readdir('/d')).toEqual(['new', 'old']);
    expect(text(await disk.readFile('/d/old'))).toBe('kept now');
  });

  it('loses pages one by one, in no order', async () => {
    const disk = await diskWith({ f: 'x'.repeat(8 * 4096) });
    const file = await disk.open('/d/f', 'write');
    await file.write([new Uint8Array(8 * 4096).fill(0x79)], 0);
    disk.crash({ random: alternating() });
    const survived = text(await disk.readFile('/d/f'));
    const pages = Array.from({ length: 8 }, (_, page) => survived[page * 4096]);
    expect(pages).toEqual(['x', 'y', 'x', 'y', 'x', 'y', 'x', 'y']);
  });

  it('covers by a datasync what was given before it, not what came after it began', async () => {
    let release = (): void => {};
    const disk = new MemoryDisk();
    const file = await disk.open('/f', 'create');
    await disk.syncDir('/');
    await file.write([ascii('before')], 0);
    disk.setDelay((op) => (op === 'datasync' ? new Promise((resolve) => (release = resolve)) : undefined));
    const synced = file.datasync();
    await Promise.resolve();
    await file.write([ascii('AFTER!')], 0);
    release();
    await synced;
    disk.crash();
    expect(text(await disk.readFile('/f'))).toBe('before');
  });

  it('undoes a rename whole or not at all, across directories', async () => {
    for (const kept of [0, 1]) {
      const disk = await diskWith({ f: 'f' });
      await disk.mkdir('/e');
      await disk.rename('/d/f', '/e/g');
      disk.crash({ random: always(kept) });
      expect([await disk.readdir('/d'), await disk.readdir('/e')]).toEqual(kept ? [[], ['g']] : [['f'], []]);
    }
    const disk = await diskWith({ f: 'f' });
    await disk.mkdir('/e');
    await disk.rename('/d/f', '/e/g');
    await disk.syncDir('/e');
    disk.crash();
    expect([await disk.readdir('/d'), await disk.readdir('/e')]).toEqual([[], ['g']]);
  });

  it('never keeps a later change of a name without the earlier', async () => {
    const disk = await diskWith({ f: 'first' });
    await disk.writeFileAtomic('/d/f', ascii('second'));
    await disk.unlink('/d/f');
    await disk.open('/d/f', 'exclusive');
    // Drops the first pending change and would keep the next.
    disk.crash({ random: alternating() });
    expect(text(await disk.readFile('/d/f'))).toBe('second');
  });

  it('brings back a file whose removal was not synced, with its content and its space', async () => {
    const disk = await diskWith({ f: 'precious' });
    const used = disk.usedBytes;
    await disk.unlink('/d/f');
    expect(disk.usedBytes).toBe(used - 4096);
    disk.crash();
    expect(text(await disk.readFile('/d/f'))).toBe('precious');
    expect(disk.usedBytes).toBe(used);
  });

  it('leaves an atomic write old or new at every point', async () => {
    for (let steps = 0; steps < 12; steps++) {
      for (const random of [undefined, always(1), alternating()]) {
        const disk = await diskWith({ f: 'old content' });
        disk.failNext({ after: steps, times: 100 });
        await disk.writeFileAtomic('/d/f', ascii('new')).catch(() => {});
        disk.crash(random ? { random } : {});
        disk.failNext({ times: 0 });
        const again = await retry(() => disk.readFile('/d/f'));
        expect(['old content', 'new']).toContain(text(again));
      }
    }
  });

  it('keeps the batches of a key-value store up to the last sync, then some', async () => {
    const put = (disk: MemoryDisk) => async (): Promise<void> => {
      const kv = await disk.openKv('/kv');
      await kv.batch([{ key: ascii('a'), value: ascii('1') }], { sync: false });
      await kv.batch([{ key: ascii('b'), value: ascii('2') }], { sync: true });
      await kv.batch([{ key: ascii('a'), value: ascii('3') }, { key: ascii('b') }], { sync: false });
      await kv.batch([{ key: ascii('c'), value: ascii('4') }], { sync: false });
    };
    const after = async (random: Random | undefined, anyKvOrder = false): Promise<string> => {
      const disk = new MemoryDisk();
      await put(disk)();
      disk.crash({ ...(random ? { random } : {}), anyKvOrder });
      const kv = await disk.openKv('/kv');
      return ['a', 'b', 'c'].map((key) => text(kv.get(ascii(key)) ?? ascii('-'))).join('');
    };
    expect(await after(undefined)).toBe('12-');
    expect(await after(always(0))).toBe('12-');
    expect(await after(always(1))).toBe('3--');
    expect(await after(always(2))).toBe('3-4');
    expect(await after(alternating(), true)).toBe('124');
  });

  it('of the process alone loses nothing, but ends handles and locks', async () => {
    const disk = new MemoryDisk();
    const file = await disk.open('/f', 'create');
    await file.write([ascii('x')], 0);
    await disk.lock('/lock');
    await disk.openKv('/kv');
    disk.killProcess();
    expect(text(await disk.readFile('/f'))).toBe('x');
    await disk.lock('/lock');
    await disk.openKv('/kv');
    await expect(file.sizeBytes().then(() => file.datasync())).rejects.toMatchObject({ code: 'EIO' });
  });
});

async function retry<T>(act: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await act();
    } catch {
      // Faults left over.
    }
  }
}

describe('MemoryDisk', () => {
  it('fills up and gives space back', async () => {
    const disk = new MemoryDisk({ capacityBytes: 10 * 4096 });
    const file = await disk.open('/f', 'create');
    await file.write([new Uint8Array(8 * 4096)], 0);
    await expect(file.write([new Uint8Array(3 * 4096)], 8 * 4096)).rejects.toMatchObject({ code: 'ENOSPC' });
    await file.write([new Uint8Array(8 * 4096)], 0);
    const kv = await disk.openKv('/kv');
    const ops = [{ key: ascii('k'), value: new Uint8Array(3 * 4096) }];
    await expect(kv.batch(ops, { sync: true })).rejects.toMatchObject({ code: 'ENOSPC' });
    await disk.unlink('/f');
    await expect(kv.batch(ops, { sync: true })).rejects.toMatchObject({ code: 'ENOSPC' });
    await file.close();
    await kv.batch(ops, { sync: true });
    expect(disk.usedBytes).toBe(3 * 4096 + 1);
    expect(await disk.space()).toMatchObject({ totalBytes: 10 * 4096, freeBytes: 7 * 4096 - 1 });
    disk.setCapacity(100);
    expect((await disk.space()).freeBytes).toBe(0);
    await kv.batch([{ key: ascii('k') }], { sync: true });
    expect(disk.usedBytes).toBe(0);
  });

  it('fails when told to', async () => {
    const disk = await diskWith({ a: 'a', b: 'b' });
    disk.failNext({ op: 'read', path: '/b', after: 1, times: 2, code: 'EIO' });
    const results: string[] = [];
    for (const name of ['b', 'a', 'b', 'b', 'b']) {
      results.push(await disk.readFile(`/d/${name}`).then(text, (error: { code: string }) => error.code));
    }
    expect(results).toEqual(['b', 'a', 'EIO', 'EIO', 'b']);
    const cancel = disk.failNext();
    cancel();
    expect(text(await disk.readFile('/d/a'))).toBe('a');
    disk.corrupt('/d/a', 0, 0x02);
    expect(text(await disk.readFile('/d/a'))).toBe('c');
  });
});

describe('MemoryKv', () => {
  it('holds many keys, in any order of arrival', async () => {
    const kv = new MemoryKv();
    const key = (index: number): Uint8Array => ascii(String((index * 7919) % 100_003).padStart(6, '0'));
    for (let index = 0; index < 100_003; index += 1000) {
      const ops = Array.from({ length: Math.min(1000, 100_003 - index) }, (_, at) => ({
        key: key(index + at),
        value: key(index + at),
      }));
      await kv.batch(ops, { sync: true });
    }
    expect(kv.count).toBe(100_003);
    let previous = '';
    let count = 0;
    for await (const [found] of kv.scan({ gte: ascii('050000'), lt: ascii('060000') })) {
      const name = text(found);
      expect(name > previous).toBe(true);
      previous = name;
      count++;
    }
    expect(count).toBe(10_000);
  });
});

describe('MemoryNetwork', () => {
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 50; turn++) await Promise.resolve();
  };

  it('carries streams both ways, waits for readers, ends in order', async () => {
    const network = new MemoryNetwork();
    const log: string[] = [];
    const listener = await network.transport('a').listen('a:0', (connection) => {
      connection.onData((chunk) => {
        log.push(`server ${text(chunk)}`);
        connection.write([ascii('answer')]);
      });
      connection.onClose((error) => log.push(`server closed ${error?.message ?? 'well'}`));
    });
    const client = await network.transport('b').connect(listener.address, 1);
    client.onClose((error) => log.push(`client closed ${error?.message ?? 'well'}`));
    client.pause();
    client.onData((chunk) => log.push(`client ${text(chunk)}`));
    client.write([ascii('one')]);
    client.end();
    client.write([ascii('too late')]);
    await settle();
    expect(log).toEqual(['server one']);
    client.resume();
    await settle();
    expect(log.slice(0, 2)).toEqual(['server one', 'client answer']);
    expect(log.slice(2).sort()).toEqual(['client closed well', 'server closed well']);
  });

  it('tells when a full connection has drained', async () => {
    const network = new MemoryNetwork();
    let receiver: { resume(): void } | undefined;
    await network.transport('a').listen('a:1', (connection) => {
      connection.pause();
      connection.onData(() => {});
      receiver = connection;
    });
    const client = await network.transport('b').connect('a:1', 1);
    let drained = 0;
    client.onDrain(() => drained++);
    for (let count = 0; count < 20; count++) client.write([new Uint8Array(100_000)]);
    await settle();
    expect(client.queuedBytes).toBe(2_000_000);
    expect(drained).toBe(0);
    receiver?.resume();
    await settle();
    expect(client.queuedBytes).toBe(0);
    expect(drained).toBe(1);
  });

  it('refuses where nobody listens, tells a broken end, takes an address once', async () => {
    const network = new MemoryNetwork();
    const a = network.transport('a');
    await expect(a.connect('b:5', 1)).rejects.toMatchObject({ code: 'ERR_PEER_UNREACHABLE' });
    const listener = await a.listen('0.0.0.0:5', (connection) => connection.destroy());
    expect(listener.address).toBe('a:5');
    await expect(a.listen('a:5', () => {})).rejects.toMatchObject({ code: 'EADDRINUSE' });
    const client = await network.transport('b').connect('a:5', 1);
    const closed = new Promise<Error | undefined>((resolve) => client.onClose(resolve));
    client.onData(() => {});
    expect(await closed).toMatchObject({ code: 'ECONNRESET' });
    await listener.close();
    await expect(a.connect('a:5', 1)).rejects.toMatchObject({ code: 'ERR_PEER_UNREACHABLE' });
  });
});
