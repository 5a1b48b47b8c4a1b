import * as net from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Connection, Env, Transport } from '../env.ts';
import { createNodeEnv } from '../env-node.ts';
import { AuthError, PeerUnreachableError, TimeoutError, UsageError } from '../errors.ts';
import type { GroupId, NodeId } from '../ids.ts';
import { MiB } from '../limits.ts';
import { createDiscovery } from './discovery.ts';
import { createNetwork } from './network.ts';
import type { Network } from './types.ts';
import { createNodeTransport } from './transport-node.ts';

const key = new Uint8Array(32).fill(1);
const n1 = 'n1' as NodeId;

function make(kind: 'node' | 'client', transport: Transport, clusterKey = key): Network {
  const env: Env = createNodeEnv({ transport });
  const identity =
    kind === 'node' ? { kind, nodeId: n1, clusterId: 'c', label: 'n1' } : { kind, clusterId: 'c', label: 'client' };
  const network = createNetwork({ env, identity, key: clusterKey, log: () => undefined });
  onTestFinished(() => network.close());
  return network;
}

describe.each([
  ['TCP', createNodeTransport()],
  ['TLS', createNodeTransport({ tlsKey: key, tlsOnLoopback: true })],
])('over real %s', (_name, transport) => {
  it('calls and payloads go through', async () => {
    const server = make('node', transport);
    const block = new Uint8Array(4 * MiB).map((_, i) => i % 251);
    let released = 0;
    server.handle('echo', ({ header }) => ({ header }));
    server.handle('block.get', () => ({ header: null, payload: [block], release: () => (released += 1) }));
    server.handle('put', async (request) => ({ header: Buffer.compare(await request.payload(), block) }));
    const address = await server.listen('127.0.0.1:0');
    const client = make('client', transport);
    client.setAddresses(new Map([[n1, address]]));
    const options = { timeoutMs: 10_000 };
    const calls = Array.from({ length: 200 }, (_, i) => client.call(n1, 'echo', i, options));
    const gets = Array.from({ length: 6 }, () => client.call(n1, 'block.get', null, options));
    expect((await Promise.all(calls)).map(({ header }) => header)).toEqual([...calls.keys()]);
    for (const { payload } of await Promise.all(gets)) expect(Buffer.compare(payload, block)).toBe(0);
    expect((await client.call(n1, 'put', null, { ...options, payload: [block] })).header).toBe(0);
    expect(released).toBe(6);
    await server.close();
    await expect(client.call(n1, 'echo', 1, options)).rejects.toThrow(PeerUnreachableError);
  });

  it('a connection pauses, ends in order and tells of the end', async () => {
    let accept: (connection: Connection) => void = () => undefined;
    const accepted = new Promise<Connection>((resolve) => (accept = resolve));
    const listener = await transport.listen('127.0.0.1:0', (connection) => {
      accept(connection);
    });
    onTestFinished(() => listener.close());
    const out = await transport.connect(listener.address, 1000);
    const sent = 3 * MiB;
    out.write([new Uint8Array(sent)]);
    out.end();
    const incoming = await accepted;
    let received = 0;
    const closed = new Promise<Error | undefined>((resolve) => {
      incoming.onClose(resolve);
    });
    incoming.onData((chunk) => {
      received += chunk.length;
      incoming.pause();
      setImmediate(() => {
        incoming.resume();
      });
    });
    expect(await closed).toBeUndefined();
    expect(received).toBe(sent);
  });
});

describe('the real transport', () => {
  it('names an address in use', async () => {
    const transport = createNodeTransport();
    const address = await make('node', transport).listen('127.0.0.1:0');
    const second = make('node', transport).listen(address);
    await expect(second).rejects.toThrow(UsageError);
    await expect(second).rejects.toThrow(address);
  });

  it('says that nobody listens, or that nobody answers', async () => {
    const transport = createNodeTransport();
    const listener = await transport.listen('127.0.0.1:0', () => undefined);
    await listener.close();
    await expect(transport.connect(listener.address, 1000)).rejects.toThrow(PeerUnreachableError);
    const tls = createNodeTransport({ tlsKey: key, tlsOnLoopback: true });
    const silent = net.createServer(() => undefined).listen(0, '127.0.0.1');
    onTestFinished(() => void silent.close());
    await new Promise((resolve) => silent.once('listening', resolve));
    const { port } = silent.address() as net.AddressInfo;
    await expect(tls.connect(`127.0.0.1:${port}`, 50)).rejects.toThrow(TimeoutError);
  });

  it('tells a wrong key by TLS too', async () => {
    const server = make('node', createNodeTransport({ tlsKey: key, tlsOnLoopback: true }));
    const address = await server.listen('127.0.0.1:0');
    const other = new Uint8Array(32).fill(2);
    const dialled = make('client', createNodeTransport({ tlsKey: other, tlsOnLoopback: true }), other).dial(
      address,
      2000,
    );
    await expect(dialled).rejects.toThrow(AuthError);
    await expect(dialled).rejects.toThrow(/another cluster key/);
  });

  it('cuts off who talks plainly where TLS is due', async () => {
    const server = make('node', createNodeTransport({ tlsKey: key, tlsOnLoopback: true }));
    const address = await server.listen('127.0.0.1:0');
    await expect(make('client', createNodeTransport()).dial(address, 2000)).rejects.toThrow(PeerUnreachableError);
  });

  it('carries discovery', async () => {
    const env = createNodeEnv({ transport: createNodeTransport() });
    const open = (groups: string[]) =>
      createDiscovery({ env, key, clusterId: 'c', self: '127.0.0.1:7420', groups: () => groups as GroupId[] });
    const [node, joiner] = [open(['g0']), open([])];
    const seed = await node.start('127.0.0.1:0');
    await joiner.start('127.0.0.1:0');
    expect(await joiner.probe([seed], ['g0' as GroupId])).toMatchObject([{ address: '127.0.0.1:7420', group: 'g0' }]);
    expect(node.stats()).toMatchObject({ receivedCount: 1, answeredCount: 1 });
    await Promise.all([node.close(), joiner.close()]);
  });
});
