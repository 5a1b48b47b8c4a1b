import { describe, expect, it } from 'vitest';
import type { Connection, Env } from '../../src/env.ts';
import { createSimWorld, type SimWorld } from './world.ts';

const ascii = (text: string): Uint8Array => Buffer.from(text, 'latin1');

/** A server that counts pings on its disk, and answers each once it is durable. */
async function serve(env: Env): Promise<void> {
  await env.disk.mkdir('/data');
  const kv = await env.disk.openKv('/data/kv');
  await env.transport.listen('0.0.0.0:7400', (connection) => {
    connection.onClose(() => {});
    connection.onData((chunk) => {
      const copy = new Uint8Array(chunk);
      void kv.batch([{ key: ascii('last'), value: copy }], { sync: true }).then(() => connection.write([copy]));
    });
  });
}

/** Pings until told `count` bytes; reconnects when the connection breaks. */
async function ping(env: Env, to: string, count: number): Promise<number> {
  let answered = 0;
  while (answered < count) {
    let connection: Connection;
    try {
      connection = await env.transport.connect(to, 100);
    } catch {
      await env.clock.sleep(20 + env.random.below(20));
      continue;
    }
    await new Promise<void>((resolve) => {
      const watchdog = env.clock.setTimer(500, () => connection.destroy());
      connection.onClose(() => {
        watchdog.cancel();
        resolve();
      });
      connection.onData((chunk) => {
        answered += chunk.length;
        if (answered >= count) connection.end();
        else connection.write([ascii(String(answered % 10))]);
      });
      connection.write([ascii('p')]);
    });
  }
  return answered;
}

async function workload(seed: number): Promise<SimWorld> {
  const world = createSimWorld({ seed, hosts: 3, clockError: { offsetMs: 100, drift: 0.001 } });
  await world.settle(Promise.all([serve(world.envOf('n1')), serve(world.envOf('n2'))]));
  const done = Promise.all([ping(world.envOf('n3'), 'n1:7400', 200), ping(world.envOf('n3'), 'n2:7400', 200)]);
  await world.run(50);
  world.crashHost('n1');
  world.network.partition('n3', 'n2');
  await world.run(700);
  world.network.heal();
  const back = serve(world.restartHost('n1'));
  await world.settle(Promise.all([done, back]));
  return world;
}

describe('SimWorld', () => {
  it('repeats a run event for event from its seed, crash and partition included', async () => {
    const first = await workload(7);
    const second = await workload(7);
    expect(first.eventCount).toBeGreaterThan(500);
    expect(second.trace).toEqual(first.trace);
    expect(second.digest).toBe(first.digest);
    expect((await workload(8)).digest).not.toBe(first.digest);
  });

  it('tells a deadlock and a limit that has passed, with the seed', async () => {
    const world = createSimWorld({ seed: 3 });
    await expect(world.settle(new Promise(() => {}), { what: 'godot' })).rejects.toThrow(/seed 3.*deadlock.*godot/s);
    const env = world.envOf('a');
    const beat = (): void => {
      env.clock.setTimer(10, beat);
    };
    beat();
    await expect(world.runUntil(() => false, { limitMs: 100, what: 'godot' })).rejects.toThrow(/godot did not come/);
  });

  it('stops all that a crashed host does', async () => {
    const world = createSimWorld({ seed: 1, hosts: 2 });
    const env = world.envOf('n1');
    let ticks = 0;
    let wrote = 0;
    const tick = (): void => {
      ticks++;
      env.clock.setTimer(10, tick);
    };
    tick();
    void (async () => {
      for (;;) {
        await env.disk.writeFileAtomic('/state', ascii('x'.repeat(++wrote)));
        await env.clock.sleep(1);
      }
    })();
    await world.run(100);
    world.crashHost('n1');
    const before = { ticks, wrote };
    await world.run(100);
    expect({ ticks, wrote }).toEqual(before);
    const survived = await world.settle(world.restartHost('n1').disk.readFile('/state'));
    expect(survived.length).toBeGreaterThanOrEqual(wrote - 1);
  });

  it('tells the peers of a killed process at once, and those of a dark machine nothing', async () => {
    const world = createSimWorld({ seed: 5, hosts: 2 });
    const connectAndCrash = async (kind: 'power' | 'process'): Promise<() => boolean> => {
      await world.settle(serve(world.envOf('n1')));
      const connection = await world.settle(world.envOf('n2').transport.connect('n1:7400', 100));
      let closed = false;
      connection.onClose(() => {
        closed = true;
      });
      connection.onData(() => {});
      world.crashHost('n1', { kind });
      await world.run(1000);
      connection.write([ascii('?')]);
      await world.run(1000);
      return () => closed;
    };
    expect((await connectAndCrash('process'))()).toBe(true);
    const closed = await connectAndCrash('power');
    expect(closed()).toBe(false);
    await expect(world.settle(world.envOf('n2').transport.connect('n1:7400', 100))).rejects.toMatchObject({
      code: 'ERR_TIMEOUT',
    });
    world.restartHost('n1');
    await world.run(10);
    await expect(world.settle(world.envOf('n2').transport.connect('n1:7400', 100))).rejects.toMatchObject({
      code: 'ERR_PEER_UNREACHABLE',
    });
  });

  it('keeps a stream in order whatever the weather, and a one-way partition one way', async () => {
    const world = createSimWorld({
      seed: 11,
      hosts: 2,
      weather: { latencyMs: [0, 50], bytesPerMs: 10, datagramLoss: 0.3, datagramDuplication: 0.3, cut: 0.9 },
    });
    const received: number[] = [];
    await world.settle(
      world.envOf('n1').transport.listen('n1:1', (connection) => {
        connection.onData((chunk) => received.push(...chunk));
      }),
    );
    const connection = await world.settle(world.envOf('n2').transport.connect('n1:1', 1000));
    const sent = Array.from({ length: 500 }, (_, index) => index % 256);
    connection.write([Uint8Array.from(sent.slice(0, 250))]);
    await world.run(20);
    world.network.partition('n2', 'n1', { oneWay: true });
    connection.write([Uint8Array.from(sent.slice(250))]);
    await world.run(5000);
    expect(received).toEqual(sent.slice(0, 250));
    expect(connection.queuedBytes).toBe(250);
    world.network.heal('n2', 'n1');
    await world.runUntil(() => received.length === 500);
    expect(received).toEqual(sent);
    expect(connection.queuedBytes).toBe(0);
  });

  it('loses, doubles and broadcasts datagrams', async () => {
    const world = createSimWorld({
      seed: 2,
      hosts: 3,
      weather: { latencyMs: [0, 1], bytesPerMs: 10, datagramLoss: 0.3, datagramDuplication: 0.3, cut: 0 },
    });
    const heard = new Map<string, number>();
    for (const name of ['n1', 'n2']) {
      const socket = await world.settle(world.envOf(name).transport.datagram('0.0.0.0:9', { broadcast: true }));
      socket.onMessage((packet, from) => {
        expect(from).toBe('n3:9');
        heard.set(name, (heard.get(name) ?? 0) + packet.length);
      });
    }
    const sender = await world.settle(world.envOf('n3').transport.datagram('0.0.0.0:9', { broadcast: true }));
    for (let count = 0; count < 200; count++) sender.send(ascii('x'), sender.broadcastAddresses(9)[0] ?? '');
    await world.run(100);
    for (const name of ['n1', 'n2']) {
      expect(heard.get(name)).toBeGreaterThan(120);
      expect(heard.get(name)).toBeLessThan(240);
    }
  });
});

describe('clocks of hosts', () => {
  it('drift and are off, and a timer is never early by its own host', async () => {
    const world = createSimWorld({ seed: 9, hosts: 2, clockError: { offsetMs: 1000, drift: 0.01 } });
    const [a, b] = [world.envOf('n1').clock, world.envOf('n2').clock];
    const differenceMs = (): number => Number(a.wallNs() - b.wallNs()) / 1e6;
    const before = differenceMs();
    expect(before).not.toBe(0);
    let late = Infinity;
    const startMs = a.monotonicMs();
    a.setTimer(12_345.678, () => {
      late = a.monotonicMs() - startMs - 12_345.678;
    });
    await world.run(100_000);
    expect(Math.abs(differenceMs() - before)).toBeGreaterThan(1);
    expect(late).toBeGreaterThanOrEqual(0);
    expect(late).toBeLessThan(0.001);
  });
});
