import { describe, expect, it, onTestFinished } from 'vitest';
import { createSimWorld } from '../../test/sim/world.ts';
import type { SimWorld } from '../../test/sim/world.ts';
import type { CancelSignal } from '../cancel.ts';
import type { Connection, Transport } from '../env.ts';
import {
  AuthError,
  CancelledError,
  ConflictError,
  FormatError,
  OverloadedError,
  PeerUnreachableError,
  TatamiError,
  TimeoutError,
  TooLargeError,
  UsageError,
} from '../errors.ts';
import type { NodeId } from '../ids.ts';
import { KiB, MiB, PAYLOAD_MAX_BYTES, PEER_DOWN_AFTER_MS, REQUESTS_PER_CONNECTION_MAX } from '../limits.ts';
import { createNetwork } from './network.ts';
import type { NetworkIdentity } from './network.ts';
import type { Handler, IncomingRequest, Network, PeerState } from './types.ts';

const key = new Uint8Array(32).fill(1);
const id = (name: string): NodeId => name as NodeId;
const quick = { timeoutMs: 5_000 };

interface Made {
  network: Network;
  log: string[];
}

function make(
  world: SimWorld,
  name: string,
  {
    key: ownKey = key,
    onConnection,
    ...changes
  }: Partial<NetworkIdentity> & { key?: Uint8Array; onConnection?: (connection: Connection) => void } = {},
): Made {
  const log: string[] = [];
  const isNode = name.startsWith('n');
  const env = world.envOf(name);
  const transport: Transport = {
    ...env.transport,
    listen: (address, accept) =>
      env.transport.listen(address, (connection) => {
        onConnection?.(connection);
        accept(connection);
      }),
  };
  const network = createNetwork({
    env: { ...env, transport },
    identity: {
      kind: isNode ? 'node' : 'client',
      ...(isNode ? { nodeId: id(name) } : {}),
      clusterId: 'c1',
      label: name,
      ...changes,
    },
    key: ownKey,
    log: (level, message) => log.push(`${level} ${message}`),
  });
  onTestFinished(() => network.close());
  return { network, log };
}

/** A node n1 with these handlers, and a client that knows it. */
async function pair(
  handlers: Record<string, Handler>,
  onConnection: (connection: Connection) => void = () => undefined,
) {
  const world = createSimWorld({ seed: 1, hosts: ['n1', 'c1'] });
  const server = make(world, 'n1', { onConnection });
  for (const [method, handler] of Object.entries(handlers)) server.network.handle(method, handler);
  await world.settle(server.network.listen('n1:7420'));
  const client = make(world, 'c1');
  client.network.setAddresses(new Map([[id('n1'), 'n1:7420']]));
  return { world, server, client: client.network, clientLog: client.log };
}

async function failure(world: SimWorld, promise: Promise<unknown>): Promise<TatamiError> {
  const error: unknown = await world.settle(
    promise.then(
      () => undefined,
      (reason: unknown) => reason,
    ),
  );
  expect(error).toBeInstanceOf(TatamiError);
  return error as TatamiError;
}

function pattern(lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  for (let i = 0; i < lengthBytes; i += 997) bytes[i] = i % 251;
  return bytes;
}

const never = (): Promise<never> => new Promise(() => undefined);

describe('calls', () => {
  it('carry headers of every kind both ways', async () => {
    const { world, client } = await pair({ echo: ({ header }) => ({ header }) });
    const header = {
      n: 5,
      big: 5n,
      ns: 1_700_000_000_123_456_789n,
      bytes: Uint8Array.of(1, 2),
      list: [null, true, 'x'],
      f: 0.5,
      gone: undefined,
    };
    const reply = await world.settle(client.call(id('n1'), 'echo', header, quick));
    expect(reply.header).toEqual(header);
    expect(reply.payload).toHaveLength(0);
  });

  it.each([1, 100, 256 * KiB, 256 * KiB + 1, 4 * MiB + 2048])(
    'carry payloads of %i bytes both ways',
    async (lengthBytes) => {
      const { world, client } = await pair({
        'block.echo': async (request) => ({ header: request.payloadBytes, payload: [await request.payload()] }),
        echo: async (request) => ({ header: request.payloadBytes, payload: [await request.payload()] }),
      });
      const sent = pattern(lengthBytes);
      const half = lengthBytes >> 1;
      for (const method of ['echo', 'block.echo']) {
        const payload = [sent.subarray(0, half), sent.subarray(half)];
        const reply = await world.settle(client.call(id('n1'), method, null, { ...quick, payload }));
        expect(reply.header).toBe(lengthBytes);
        expect(Buffer.compare(reply.payload, sent)).toBe(0);
        reply.recycle?.();
      }
    },
  );

  it("put a reply's payload where the caller wants it", async () => {
    const { world, client } = await pair({ get: () => ({ header: null, payload: [pattern(300_000)] }) });
    const into = new Uint8Array(400_000);
    const reply = await world.settle(client.call(id('n1'), 'get', null, { ...quick, into }));
    expect(reply.payload.buffer).toBe(into.buffer);
    expect(Buffer.compare(into.subarray(0, 300_000), pattern(300_000))).toBe(0);
  });

  it('bring back the class, remedy and info of an error; log a bug', async () => {
    const { world, client, server } = await pair({
      conflict: () => {
        throw new ConflictError('lost', { remedy: 'Try again.', info: { epoch: 7 } });
      },
      bug: async () => {
        await Promise.resolve();
        throw new TypeError('oops');
      },
    });
    const conflict = await failure(world, client.call(id('n1'), 'conflict', null, quick));
    expect(conflict).toBeInstanceOf(ConflictError);
    expect(conflict).toMatchObject({ message: 'lost', remedy: 'Try again.', info: { epoch: 7 } });
    expect(await failure(world, client.call(id('n1'), 'bug', null, quick))).toMatchObject({ code: 'ERR_INTERNAL' });
    expect(server.log).toEqual(['error handler of bug failed']);
    expect(await failure(world, client.call(id('n1'), 'nothing', null, quick))).toBeInstanceOf(FormatError);
  });

  it('end at their deadline, here and there', async () => {
    let request: IncomingRequest | undefined;
    const { world, client } = await pair({
      slow: (incoming) => {
        request = incoming;
        return never();
      },
    });
    const startMs = world.time.nowMs;
    expect(await failure(world, client.call(id('n1'), 'slow', null, { timeoutMs: 300 }))).toBeInstanceOf(TimeoutError);
    expect(world.time.nowMs - startMs).toBeLessThan(330);
    await world.run(50);
    expect(request?.signal.aborted).toBe(true);
  });

  it('can be cancelled; the handler is told; a late reply does no harm', async () => {
    const finish: (() => void)[] = [];
    let signal: CancelSignal | undefined;
    const { world, client } = await pair({
      slow: (incoming) => {
        ({ signal } = incoming);
        return new Promise((resolve) => finish.push(() => resolve({ header: 'late', payload: [pattern(MiB)] })));
      },
      fast: () => ({ header: 'fast' }),
    });
    const abort = new AbortController();
    const call = client.call(id('n1'), 'slow', null, { ...quick, signal: abort.signal });
    await world.runUntil(() => finish.length > 0);
    abort.abort();
    expect(await failure(world, call)).toBeInstanceOf(CancelledError);
    await world.runUntil(() => signal?.aborted === true);
    finish[0]?.();
    expect((await world.settle(client.call(id('n1'), 'fast', null, quick))).header).toBe('fast');
    expect(client.peer(id('n1')).inFlightCount).toBe(0);
  });

  it('reject when the peer dies in the middle', async () => {
    let arrived = false;
    const { world, client } = await pair({
      slow: () => {
        arrived = true;
        return never();
      },
    });
    const call = client.call(id('n1'), 'slow', null, { timeoutMs: 30_000 });
    await world.runUntil(() => arrived);
    world.crashHost('n1', { kind: 'process' });
    expect(await failure(world, call)).toBeInstanceOf(PeerUnreachableError);
  });

  it('reject when the peer falls silent, and the next ones at once', async () => {
    let arrived = false;
    const { world, client } = await pair({
      slow: () => {
        arrived = true;
        return never();
      },
    });
    const call = client.call(id('n1'), 'slow', null, { timeoutMs: 30_000 });
    await world.runUntil(() => arrived);
    const startMs = world.time.nowMs;
    world.crashHost('n1');
    expect(await failure(world, call)).toBeInstanceOf(PeerUnreachableError);
    expect(world.time.nowMs - startMs).toBeLessThan(PEER_DOWN_AFTER_MS + 1_200);
    for (let i = 0; i < 20; i += 1) {
      const againMs = world.time.nowMs;
      expect(await failure(world, client.call(id('n1'), 'slow', null, quick))).toBeInstanceOf(PeerUnreachableError);
      expect(world.time.nowMs - againMs).toBeLessThanOrEqual(101);
      await world.run(170);
    }
  });

  it('are refused beyond the bound, and go on after that', async () => {
    const finish: (() => void)[] = [];
    const { world, client } = await pair({
      wait: () => new Promise((resolve) => finish.push(() => resolve({ header: 'done' }))),
    });
    const outcomes: string[] = [];
    for (let i = 0; i < REQUESTS_PER_CONNECTION_MAX + 3; i += 1) {
      client.call(id('n1'), 'wait', null, quick).then(
        () => outcomes.push('done'),
        (error: unknown) => outcomes.push(error instanceof OverloadedError ? 'overloaded' : String(error)),
      );
    }
    await world.runUntil(() => outcomes.length === 3);
    expect(outcomes).toEqual(['overloaded', 'overloaded', 'overloaded']);
    for (const one of finish) one();
    await world.runUntil(() => outcomes.length === REQUESTS_PER_CONNECTION_MAX + 3);
    expect(outcomes.filter((outcome) => outcome === 'done')).toHaveLength(REQUESTS_PER_CONNECTION_MAX);
  });

  it('too large to be sent fail at the caller and leave the connection', async () => {
    const { world, client } = await pair({
      echo: ({ header }) => ({ header }),
      huge: () => ({ header: new Uint8Array(5 * MiB) }),
    });
    const payload = [new Uint8Array(PAYLOAD_MAX_BYTES), new Uint8Array(1)];
    expect(await failure(world, client.call(id('n1'), 'echo', null, { ...quick, payload }))).toBeInstanceOf(
      TooLargeError,
    );
    expect(await failure(world, client.call(id('n1'), 'echo', new Uint8Array(5 * MiB), quick))).toBeInstanceOf(
      TooLargeError,
    );
    expect(await failure(world, client.call(id('n1'), 'huge', null, quick))).toBeInstanceOf(TooLargeError);
    expect((await world.settle(client.call(id('n1'), 'echo', 1, quick))).header).toBe(1);
  });

  it('can be made back over the channel that a request came on', async () => {
    const { world, client } = await pair({
      subscribe: async ({ channel }) => ({ header: (await channel.call('yourName', null, quick)).header }),
    });
    client.handle('yourName', () => ({ header: 'c1' }));
    expect((await world.settle(client.call(id('n1'), 'subscribe', null, quick))).header).toBe('c1');
  });

  it('carry news both ways', async () => {
    const { world, server, client } = await pair({ ping: () => ({ header: null }) });
    const heard: unknown[] = [];
    server.network.setNews(
      () => ({ catalogEpoch: 9, fullPermille: 800, gcGeneration: 2 }),
      (news, from) => heard.push(news, from.label),
    );
    client.setNews(
      () => ({ catalogEpoch: 4, fullPermille: 0, gcGeneration: 1 }),
      () => undefined,
    );
    await world.settle(client.call(id('n1'), 'ping', null, quick));
    expect(heard).toEqual([{ catalogEpoch: 4, fullPermille: 0, gcGeneration: 1 }, 'c1']);
    expect(client.peer(id('n1'))).toMatchObject({
      state: 'up',
      news: { catalogEpoch: 9, fullPermille: 800, gcGeneration: 2 },
    });
    expect(client.peer(id('n1')).rttMs).toBeGreaterThan(0);
  });
});

describe('payloads', () => {
  it('let small calls pass', async () => {
    const { world, client } = await pair({
      'block.get': () => ({ header: null, payload: [pattern(4 * MiB)] }),
      ping: () => ({ header: null }),
    });
    // 1 MiB takes 10 ms: 16 MiB more than a tenth of a second.
    world.network.weather = { ...world.network.weather, bytesPerMs: 100 * KiB };
    await world.settle(client.call(id('n1'), 'ping', null, quick));
    const large = Promise.all(Array.from({ length: 4 }, () => client.call(id('n1'), 'block.get', null, quick)));
    await world.run(20);
    const startMs = world.time.nowMs;
    await world.settle(client.call(id('n1'), 'ping', null, quick));
    expect(world.time.nowMs - startMs).toBeLessThan(40);
    for (const { payload } of await world.settle(large)) expect(Buffer.compare(payload, pattern(4 * MiB))).toBe(0);
    expect(world.time.nowMs - startMs).toBeGreaterThan(100);
  });

  it('can be forwarded while they arrive', async () => {
    const world = createSimWorld({ seed: 2, hosts: ['c1', 'n1', 'n2'] });
    world.network.weather = { ...world.network.weather, bytesPerMs: 100 * KiB };
    const [first, second, client] = [make(world, 'n1').network, make(world, 'n2').network, make(world, 'c1').network];
    first.setAddresses(new Map([[id('n2'), 'n2:1']]));
    client.setAddresses(new Map([[id('n1'), 'n1:1']]));
    let firstPieceMs = 0;
    first.handle('block.put', async (request) => {
      const chunks = request.payloadChunks();
      await first.call(id('n2'), 'block.put', null, {
        ...quick,
        payload: { lengthBytes: request.payloadBytes, chunks },
      });
      return { header: world.time.nowMs };
    });
    second.handle('block.put', async (request) => {
      const got: Uint8Array[] = [];
      for await (const chunk of request.payloadChunks()) {
        firstPieceMs ||= world.time.nowMs;
        got.push(chunk);
      }
      expect(Buffer.compare(Buffer.concat(got), pattern(4 * MiB))).toBe(0);
      return { header: null };
    });
    await world.settle(Promise.all([first.listen('n1:1'), second.listen('n2:1')]));
    const startMs = world.time.nowMs;
    await world.settle(client.call(id('n1'), 'block.put', null, { ...quick, payload: [pattern(4 * MiB)] }));
    // One hop takes 40 ms; two in turn would take 80.
    expect(firstPieceMs - startMs).toBeLessThan(20);
    expect(world.time.nowMs - startMs).toBeLessThan(60);
  });

  it('that break off reject at the receiver and at the caller', async () => {
    const seen: string[] = [];
    const { world, client } = await pair({
      put: async (request) => {
        await request.payload().catch((error: unknown) => seen.push((error as TatamiError).code));
        return { header: null };
      },
    });
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(1000);
      await world.envOf('c1').clock.sleep(5);
      throw new Error('the disk is gone');
    }
    const call = client.call(id('n1'), 'put', null, { ...quick, payload: { lengthBytes: 2000, chunks: broken() } });
    expect(await failure(world, call)).toBeInstanceOf(CancelledError);
    await world.runUntil(() => seen.length > 0);
    expect(seen).toEqual(['ERR_CANCELLED']);
  });

  it('wait for a slow reader without piling up below, and are released', async () => {
    let released = 0;
    let started = 0;
    let largestQueue = 0;
    const { world, client } = await pair(
      {
        'block.get': () => {
          started += 1;
          return { header: null, payload: [pattern(4 * MiB)], release: () => (released += 1) };
        },
      },
      (connection) => {
        const { write } = connection;
        connection.write = (chunks) => {
          write.call(connection, chunks);
          largestQueue = Math.max(largestQueue, connection.queuedBytes);
        };
      },
    );
    world.network.weather = { ...world.network.weather, bytesPerMs: 64 * KiB };
    const calls = Promise.all(
      Array.from({ length: 40 }, () => client.call(id('n1'), 'block.get', null, { timeoutMs: 60_000 })),
    );
    await world.run(100);
    // 32 MiB of replies may wait; requests beyond that are not even started.
    expect(started).toBeLessThan(12);
    expect(largestQueue).toBeGreaterThan(MiB / 2);
    expect(largestQueue).toBeLessThan(2 * MiB);
    await world.settle(calls);
    await world.run(200);
    expect(released).toBe(40);
  });

  it('are released when the connection breaks', async () => {
    let released = 0;
    const { world, client } = await pair({
      'block.get': () => ({ header: null, payload: [pattern(4 * MiB)], release: () => (released += 1) }),
    });
    world.network.weather = { ...world.network.weather, bytesPerMs: KiB };
    const calls = [1, 2, 3].map(() => failure(world, client.call(id('n1'), 'block.get', null, quick)));
    await world.run(100);
    world.network.breakConnections('n1', 'c1');
    for (const error of await world.settle(Promise.all(calls))) expect(error).toBeInstanceOf(PeerUnreachableError);
    expect(released).toBe(3);
  });

  it('are not given back while a connection that is closed in order still sends them', async () => {
    let released = 0;
    const payload = pattern(512 * KiB);
    const { world, client, server } = await pair({
      'block.get': () => ({
        header: null,
        payload: [payload],
        release: () => {
          released += 1;
          // As a buffer that is used again.
          payload.fill(0);
        },
      }),
    });
    world.network.weather = { ...world.network.weather, bytesPerMs: 4 * KiB };
    const call = client.call(id('n1'), 'block.get', null, quick);
    await world.run(50);
    const closing = server.network.close();
    const reply = await world.settle(call);
    expect(Buffer.compare(reply.payload, pattern(512 * KiB))).toBe(0);
    await world.settle(closing);
    await world.run(1_000);
    expect(released).toBe(1);
  });
});

describe('strangers', () => {
  it('to a node that is about to end are no reason to give up, as with a wrong key', async () => {
    const closing: Promise<void>[] = [];
    const { world, client, server } = await pair({}, () => {
      // Somebody has connected, and has yet to say who he is.
      queueMicrotask(() => closing.push(server.network.close()));
    });
    const error = await failure(world, client.dial('n1:7420', 2_000));
    expect(error).toBeInstanceOf(PeerUnreachableError);
    expect(error.message).toMatch(/refused/);
    await world.settle(Promise.all(closing));
    expect(closing).not.toEqual([]);
  });

  it('with a wrong key are refused, with the remedy at their side', async () => {
    const { world, server } = await pair({});
    const stranger = make(world, 'c9', { key: new Uint8Array(32).fill(2) }).network;
    const error = await failure(world, stranger.dial('n1:7420', 2_000));
    expect(error).toBeInstanceOf(AuthError);
    expect(error.remedy).toMatch(/key file/);
    await world.run(50);
    expect(server.log.join()).toMatch(/warn .*not let in/);
    expect(server.network.incoming()).toEqual([]);
  });

  it('of another cluster are refused', async () => {
    const { world } = await pair({});
    const error = await failure(world, make(world, 'c9', { clusterId: 'c2' }).network.dial('n1:7420', 2_000));
    expect(error).toBeInstanceOf(AuthError);
    expect(error.message).toMatch(/another cluster/);
  });

  it('that talk garbage, or stay silent, are cut off; many of them do not keep others out', async () => {
    const { world, server, client } = await pair({ ping: () => ({ header: 1 }) });
    const env = world.envOf('c9');
    let closedCount = 0;
    const garbage = [
      new Uint8Array(1000).fill(0xff),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'.repeat(5)),
      new Uint8Array(0),
    ];
    for (let i = 0; i < 150; i += 1) {
      const connection = await world.settle(env.transport.connect('n1:7420', 1000));
      connection.onData(() => undefined);
      connection.onClose(() => (closedCount += 1));
      connection.write([garbage[i % 3] as Uint8Array]);
    }
    expect((await world.settle(client.call(id('n1'), 'ping', null, quick))).header).toBe(1);
    await world.run(4_000);
    expect(closedCount).toBe(150);
    expect(server.network.incoming()).toHaveLength(1);
  });
});

describe('peers', () => {
  async function three() {
    const world = createSimWorld({ seed: 3, hosts: ['n1', 'n2', 'c1'] });
    const states: string[] = [];
    const start = async (name: string): Promise<Network> => {
      const { network } = make(world, name);
      network.handle('who', () => ({ header: name }));
      await world.settle(network.listen(`${name}:1`));
      network.setAddresses(new Map(['n1', 'n2'].map((node) => [id(node), `${node}:1`])));
      return network;
    };
    const [n1, n2] = [await start('n1'), await start('n2')];
    const client = make(world, 'c1').network;
    client.setAddresses(new Map(['n1', 'n2'].map((node) => [id(node), `${node}:1`])));
    client.onPeerState((node: NodeId, state: PeerState) => states.push(`${node} ${state}`));
    return { world, n1, n2, client, states, start };
  }

  it('share one connection; both ways at once works', async () => {
    const { world, n1, n2, client } = await three();
    const calls = Array.from({ length: 10 }, () => client.call(id('n1'), 'who', null, quick));
    await world.settle(Promise.all(calls));
    expect(n1.incoming()).toHaveLength(1);
    const both = [n1.call(id('n2'), 'who', null, quick), n2.call(id('n1'), 'who', null, quick)];
    expect((await world.settle(Promise.all(both))).map(({ header }) => header)).toEqual(['n2', 'n1']);
    expect(n1.incoming().map(({ remote }) => remote.label)).toEqual(['c1', 'n2']);
  });

  it('that come back are used again within a second and a half', async () => {
    const { world, client, states, start } = await three();
    await world.settle(client.call(id('n1'), 'who', null, quick));
    world.crashHost('n1', { kind: 'process' });
    await world.run(10_000);
    expect(await failure(world, client.call(id('n1'), 'who', null, quick))).toBeInstanceOf(PeerUnreachableError);
    await start('n1');
    await world.run(1_300);
    expect((await world.settle(client.call(id('n1'), 'who', null, quick))).header).toBe('n1');
    expect(states).toEqual(['n1 up', 'n1 down', 'n1 up']);
  });

  it('that only idle stay up, by pings', async () => {
    const { world, client, states } = await three();
    await world.settle(client.call(id('n1'), 'who', null, quick));
    await world.run(60_000);
    expect(states).toEqual(['n1 up']);
    world.crashHost('n1');
    await world.run(PEER_DOWN_AFTER_MS + 1_200);
    expect(states).toEqual(['n1 up', 'n1 down']);
  });

  it('that shut down say so', async () => {
    const { world, n1, client, states } = await three();
    await world.settle(client.call(id('n1'), 'who', null, quick));
    await world.settle(n1.close());
    await world.run(20);
    expect(states).toEqual(['n1 up', 'n1 down']);
  });

  it('that left the address book are forgotten', async () => {
    const { world, client, n1 } = await three();
    await world.settle(client.call(id('n1'), 'who', null, quick));
    client.setAddresses(new Map([[id('n2'), 'n2:1']]));
    expect(await failure(world, client.call(id('n1'), 'who', null, quick))).toBeInstanceOf(PeerUnreachableError);
    await world.run(20);
    expect(n1.incoming()).toEqual([]);
  });

  it('found to be another node are not talked to', async () => {
    const { world, client } = await three();
    client.setAddresses(new Map([[id('n3'), 'n2:1']]));
    const error = await failure(world, client.call(id('n3'), 'who', null, quick));
    expect(error.message).toMatch(/there is n2, not n3/);
  });

  it('close() ends everything', async () => {
    const { world, client, n1 } = await three();
    n1.handle('wait', () => never());
    const call = failure(world, client.call(id('n1'), 'wait', null, quick));
    await world.run(20);
    await world.settle(client.close());
    expect(await call).toBeInstanceOf(PeerUnreachableError);
    expect(await failure(world, client.call(id('n1'), 'who', null, quick))).toBeInstanceOf(PeerUnreachableError);
    await expect(client.close()).resolves.toBeUndefined();
  });

  it('an address in use is named', async () => {
    const { world } = await three();
    const error = await failure(world, make(world, 'n1').network.listen('n1:1'));
    expect(error).toBeInstanceOf(UsageError);
    expect(error.message).toContain('n1:1');
  });
});
