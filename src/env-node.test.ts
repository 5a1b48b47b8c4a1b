import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createNodeEnv } from './env-node.ts';

const env = createNodeEnv();
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tatami-env-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('the clock', () => {
  it('gives wall times that differ and agree with Date.now', () => {
    const times = Array.from({ length: 1000 }, () => env.clock.wallNs());
    for (let index = 1; index < times.length; index++)
      expect(times[index]).toBeGreaterThanOrEqual(times[index - 1] ?? 0n);
    expect(new Set(times).size).toBeGreaterThan(900);
    expect(Math.abs(Number(env.clock.wallNs() / 1_000_000n) - Date.now())).toBeLessThanOrEqual(5);
  });

  it('follows a change of the system clock at once', () => {
    const real = Date.now;
    try {
      Date.now = () => real() - 3_600_000;
      expect(Math.abs(Number(env.clock.wallNs() / 1_000_000n) - Date.now())).toBeLessThanOrEqual(5);
    } finally {
      Date.now = real;
    }
    expect(Math.abs(Number(env.clock.wallNs() / 1_000_000n) - Date.now())).toBeLessThanOrEqual(5);
  });

  it('is never early, cancels, and takes very long delays', async () => {
    let fired = '';
    env.clock.setTimer(1, () => (fired += 'x')).cancel();
    const far = env.clock.setTimer(2 ** 40, () => (fired += 'far'));
    const before = env.clock.monotonicMs();
    await env.clock.sleep(7.3);
    expect(env.clock.monotonicMs() - before).toBeGreaterThanOrEqual(7.3);
    expect(fired).toBe('');
    far.cancel();
    const controller = new AbortController();
    const sleeping = env.clock.sleep(60_000, controller.signal);
    controller.abort();
    await expect(sleeping).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
    await expect(env.clock.sleep(1, controller.signal)).rejects.toMatchObject({ code: 'ERR_CANCELLED' });
  });
});

describe('the disk', () => {
  it('makes private files private', async () => {
    await env.disk.writeFileAtomic(join(folder, 'key'), Buffer.from('secret'), 0o600);
    expect((await stat(join(folder, 'key'))).mode & 0o777).toBe(0o600);
  });

  it('frees a lock when its process is killed', async () => {
    const path = join(folder, 'lock');
    // A stranger that takes the same kind of lock, as another process of ours would.
    const child = spawn('flock', ['-x', path, 'sh', '-c', 'echo 4711 > "$0"; echo locked; exec sleep 60', path], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    });
    await once(child.stdout, 'data');
    await expect(env.disk.lock(path)).rejects.toMatchObject({ code: 'EBUSY', info: { pid: 4711 } });
    process.kill(-(child.pid ?? 0), 'SIGKILL');
    await once(child, 'close');
    const lock = await env.disk.lock(path);
    expect(await readFile(path, 'utf8')).toBe(`${process.pid}\n`);
    await lock.release();
  });

  it('tells a damaged key-value store from a locked one', async () => {
    const path = join(folder, 'kv');
    const kv = await env.disk.openKv(path);
    await kv.batch([{ key: Buffer.from('a'), value: Buffer.from('b') }], { sync: true });
    await kv.close();
    await env.disk.writeFileAtomic(join(path, 'CURRENT'), Buffer.from('nonsense'));
    await expect(env.disk.openKv(path)).rejects.toMatchObject({ code: 'ERR_CORRUPT' });
  });

  it('keeps unsynced batches through log changes', async () => {
    const kv = await env.disk.openKv(join(folder, 'logs'), { writeBufferBytes: 64 * 1024 });
    const value = new Uint8Array(10_000).fill(1);
    for (let index = 0; index < 60; index++) {
      await kv.batch([{ key: Buffer.from(`k${index}`), value }], { sync: index % 5 === 4 });
    }
    for (let index = 0; index < 60; index++) expect(kv.get(Buffer.from(`k${index}`))?.length).toBe(10_000);
    await kv.close();
  });
});
