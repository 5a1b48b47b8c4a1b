import { describe, expect, it } from 'vitest';
import { SimCluster, SIM_BLOCK_BYTES } from './cluster.ts';

describe('a cluster in the simulated world', () => {
  /** Two clients, each kind of change, everything checked. */
  async function twoClients(seed: number): Promise<{ digest: string; events: number; blocks: number }> {
    const sim = await SimCluster.start({ seed });
    const { random } = sim.world;
    const [one, two] = [await sim.connect(), await sim.connect()];
    const big = Buffer.from(random.bytes(9 * SIM_BLOCK_BYTES + 1234));
    const small = Buffer.from(random.bytes(500));
    await sim.settle(
      Promise.all([
        (async () => {
          await one.mkdir('/a');
          await one.writeFile('/a/big', big);
          await one.rename('/a/big', '/a/moved');
        })(),
        (async () => {
          await two.mkdir('/b');
          for (let index = 0; index < 20; index++) await two.writeFile(`/b/small-${index}`, small);
          await two.unlink('/b/small-3');
          await two.rename('/b/small-4', '/b/small-5');
        })(),
      ]),
    );
    // Close-to-open: what one has closed the other finds, whole.
    expect((await sim.settle(two.readFile('/a/moved'))).equals(big)).toBe(true);
    expect((await sim.settle(one.readFile('/b/small-5'))).equals(small)).toBe(true);
    expect((await sim.settle(one.readdir('/b'))).length).toBe(18);
    await expect(sim.settle(one.readFile('/b/small-3'))).rejects.toMatchObject({ code: 'ENOENT' });

    const piece = Buffer.from(random.bytes(SIM_BLOCK_BYTES + 10));
    const file = await sim.settle(two.open('/a/moved', 'r+'));
    await sim.settle(file.write(piece, 0, piece.length, 3 * SIM_BLOCK_BYTES + 7));
    await sim.settle(file.sync());
    await sim.settle(file.close());
    piece.copy(big, 3 * SIM_BLOCK_BYTES + 7);
    expect((await sim.settle(one.readFile('/a/moved'))).equals(big)).toBe(true);

    const blocks = await sim.check();
    const { digest, eventCount: events } = sim.world;
    await sim.close();
    return { digest, events, blocks };
  }

  it('keeps what two clients write, equal on all replicas', async () => {
    const { blocks, events } = await twoClients(1);
    expect(blocks).toBeGreaterThan(9);
    expect(events).toBeGreaterThan(500);
  });

  it('repeats a run event for event from its seed', async () => {
    const first = await twoClients(2);
    expect((await twoClients(2)).digest).toBe(first.digest);
    expect((await twoClients(3)).digest).not.toBe(first.digest);
  });
});
