/** Membership over real connections of the simulated world: what rides on whose messages. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { createSimWorld } from '../../../test/sim/world.ts';
import type { SimWorld } from '../../../test/sim/world.ts';
import type { NodeId } from '../../ids.ts';
import { createNetwork } from '../network.ts';
import type { Network } from '../types.ts';
import type { MemberState } from './board.ts';
import { handleProbes, watchMembers } from './driver.ts';

const NAMES = ['n1', 'n2', 'n3', 'n4'];
const id = (name: string): NodeId => name as NodeId;
const ADDRESSES = new Map(NAMES.map((name) => [id(name), `${name}:7400`]));

interface Started {
  readonly network: Network;
  readonly stop: () => Promise<void>;
}

function networkOf(world: SimWorld, name: string): Network {
  const isNode = name.startsWith('n');
  const network = createNetwork({
    env: world.envOf(name),
    identity: {
      kind: isNode ? 'node' : 'client',
      ...(isNode ? { nodeId: id(name) } : {}),
      clusterId: 'c',
      label: name,
    },
    key: new Uint8Array(32).fill(1),
    log: () => undefined,
  });
  network.handle('echo', ({ header }) => ({ header }));
  return network;
}

async function startNode(world: SimWorld, name: string): Promise<Started> {
  const network = networkOf(world, name);
  handleProbes(network);
  network.setAddresses(ADDRESSES);
  await world.settle(network.listen(`${name}:7400`));
  const stop = watchMembers({ env: world.envOf(name), network, self: id(name) });
  return { network, stop };
}

async function cluster() {
  const world = createSimWorld({ seed: 3, hosts: [...NAMES, 'c1'] });
  const nodes = new Map<string, Started>();
  for (const name of NAMES) nodes.set(name, await startNode(world, name));
  const client = networkOf(world, 'c1');
  client.setAddresses(ADDRESSES);
  const node = (name: string): Started => nodes.get(name)!;
  const held = (of: string, by = NAMES): (MemberState | undefined)[] =>
    by.filter((name) => name !== of && world.isRunning(name)).map((name) => node(name).network.members.stateOf(id(of)));
  const until = (what: string, holds: () => boolean) => world.runUntil(holds, { what, limitMs: 30_000 });
  const allHold = (of: string, state: MemberState, by = NAMES) =>
    until(`all hold ${of} to be ${state}`, () => held(of, by).every((each) => each === state));
  await until('all know all', () => NAMES.every((name) => held(name).every((state) => state === 'alive')));
  onTestFinished(async () => {
    await world.settle(Promise.all([client, ...[...nodes.values()].map((each) => each.network)].map((n) => n.close())));
  });
  return { world, nodes, node, client, until, allHold };
}

describe('membership on the wire', () => {
  it('a client hears of a dead node with the reply to whatever it asks another one', async () => {
    const { world, client, until, allHold } = await cluster();
    world.crashHost('n4');
    await allHold('n4', 'dead');
    expect(client.members.stateOf(id('n4'))).toBeUndefined();
    const reply = await world.settle(client.call(id('n1'), 'echo', 'hello', { timeoutMs: 1_000 }));
    expect(reply.header).toBe('hello');
    expect(client.members.stateOf(id('n4'))).toBe('dead');
    expect(client.peer(id('n4'))).toMatchObject({ state: 'unknown', member: 'dead' });
    await until('no more than that is told', () => client.members.stateOf(id('n1')) === 'alive');
  });

  it('a stopped process is found, and known again soon after it goes on', async () => {
    const { world, node, allHold } = await cluster();
    world.pauseHost('n2');
    await allHold('n2', 'dead', ['n1', 'n3', 'n4']);
    world.resumeHost('n2');
    await allHold('n2', 'alive');
    for (const name of ['n1', 'n3', 'n4']) expect(node('n2').network.members.stateOf(id(name))).toBe('alive');
  });

  it('one that stops in order says so', async () => {
    const { world, node, allHold } = await cluster();
    await world.settle(node('n3').stop());
    await allHold('n3', 'left', ['n1', 'n2', 'n4']);
    await world.settle(node('n3').network.close());
    await world.settle(world.envOf('n1').clock.sleep(10_000));
    await allHold('n3', 'left', ['n1', 'n2', 'n4']);
  });

  it('a process that was killed is suspected as soon as its connections break', async () => {
    const { world, allHold, node } = await cluster();
    const beforeMs = world.time.nowMs;
    world.crashHost('n3', { kind: 'process' });
    await allHold('n3', 'suspect', ['n1', 'n2', 'n4']);
    expect(world.time.nowMs - beforeMs).toBeLessThan(500);
    await allHold('n3', 'dead', ['n1', 'n2', 'n4']);
    expect(node('n1').network.members.views()).toHaveLength(4);
  });
});
