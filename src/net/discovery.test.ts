import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GroupId } from '../ids.ts';
import { createSimWorld } from '../../test/sim/world.ts';
import { createDiscovery } from './discovery.ts';
import { DiscoveryCore } from './discovery-core.ts';
import { DATAGRAM_MAX_BYTES } from '../limits.ts';

const key = new Uint8Array(32).fill(1);
const g = (name: string): GroupId => name as GroupId;

function core(
  instance: bigint,
  groups: readonly GroupId[] = [],
  changes: { key?: Uint8Array; clusterId?: string } = {},
): DiscoveryCore {
  let nonce = Number(instance) * 100;
  return new DiscoveryCore({
    key,
    clusterId: 'c1',
    instance,
    self: () => `10.0.0.${instance}:7420`,
    groups: () => groups,
    nonce: () => new Uint8Array(16).fill(++nonce),
    ...changes,
  });
}

describe('discovery', () => {
  it('is answered once for each wanted group that is served', () => {
    const [joiner, node] = [core(1n), core(2n, [g('g0'), g('g1'), g('g2')])];
    const [question] = joiner.ask([g('g0'), g('g2'), g('g9')], 1000) as [Uint8Array];
    const { answers } = node.receive(question, 1500);
    expect(answers.map((answer) => joiner.receive(answer, 1500).ack)).toMatchObject([
      { address: '10.0.0.2:7420', group: 'g0' },
      { address: '10.0.0.2:7420', group: 'g2' },
    ]);
    expect(node.receive(joiner.ask([], 1000)[0] as Uint8Array, 1000).answers).toHaveLength(3);
  });

  it('packets of any number of groups stay small', () => {
    const groups = Array.from({ length: 1000 }, (_, i) => g(`a group with quite a long name ${i}`));
    const packets = core(1n).ask(groups, 0);
    expect(packets.length).toBeGreaterThan(7);
    for (const packet of packets) expect(packet.length).toBeLessThanOrEqual(DATAGRAM_MAX_BYTES);
  });

  it('drops and counts what is replayed, old, forged, foreign or malformed, and answers none of it', () => {
    const joiner = core(1n);
    const node = core(2n, [g('g0')]);
    const ask = (nowMs = 100_000): Uint8Array => joiner.ask([], nowMs)[0] as Uint8Array;
    const first = ask();
    expect(node.receive(first, 100_000).answers).toHaveLength(1);
    const unwanted = [
      first,
      ask(69_000),
      core(3n, [], { key: new Uint8Array(32).fill(9) }).ask([], 100_000)[0] as Uint8Array,
      core(4n, [], { clusterId: 'c2' }).ask([], 100_000)[0] as Uint8Array,
      new Uint8Array(100),
      new Uint8Array(3),
    ];
    for (const packet of unwanted) expect(node.receive(packet, 100_000).answers).toEqual([]);
    expect(node.stats).toMatchObject({
      receivedCount: 7,
      answeredCount: 1,
      replayedCount: 1,
      oldCount: 1,
      wrongKeyCount: 1,
      otherClusterCount: 1,
      malformedCount: 2,
    });
  });

  it('believes no ack but to its own question', () => {
    const [joiner, other, node] = [core(1n), core(3n), core(2n, [g('g0')])];
    const answer = node.receive(other.ask([], 0)[0] as Uint8Array, 0).answers[0] as Uint8Array;
    expect(joiner.receive(answer, 0).ack).toBeUndefined();
    expect(joiner.stats.strayCount).toBe(1);
  });

  it('takes packets that overtook each other, each once', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray([...Array(60).keys()]), (order) => {
        const joiner = core(1n);
        const node = core(2n, [g('g0')]);
        const packets = Array.from({ length: 60 }, () => joiner.ask([], 0)[0] as Uint8Array);
        for (const i of [...order, ...order]) node.receive(packets[i] as Uint8Array, 0);
        expect(node.stats.answeredCount).toBe(order.length);
        expect(node.stats.replayedCount).toBe(order.length);
      }),
      { numRuns: 20 },
    );
  });

  it('never throws on any bytes', () => {
    const node = core(2n, [g('g0')]);
    fc.assert(fc.property(fc.uint8Array({ maxLength: 1500 }), (bytes) => node.receive(bytes, 0).answers.length === 0));
  });

  it('finds primaries through seeds and broadcast', async () => {
    const world = createSimWorld({ seed: 1, hosts: ['n1', 'n2', 'n3'] });
    const open = async (name: string, groups: GroupId[]) => {
      const discovery = createDiscovery({
        env: world.envOf(name),
        key,
        clusterId: 'c1',
        self: `${name}:7420`,
        groups: () => groups,
      });
      await discovery.start(`${name}:7421`);
      return discovery;
    };
    const [one, two, joiner] = [await open('n1', [g('g0')]), await open('n2', [g('g1')]), await open('n3', [])];
    const found = await world.settle(joiner.probe(['n1:7421', 'n2:7421'], [g('g0'), g('g1')]));
    expect(new Map(found.map(({ group, address }) => [group, address]))).toEqual(
      new Map([
        [g('g0'), 'n1:7420'],
        [g('g1'), 'n2:7420'],
      ]),
    );
    // Both heard the broadcast.
    expect(await world.settle(joiner.probe([], []))).toHaveLength(2);
    expect(await world.settle(joiner.probe(['n9:7421'], [g('g9')], { timeoutMs: 300 }))).toEqual([]);
    await Promise.all([one.close(), two.close(), joiner.close()]);
  });
});
