/** Rotten bytes on disk: read right from another copy and reported by path; with no copy left an error, never wrong bytes. */
import { closeSync, openSync, readFileSync, readSync, readdirSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TestCluster, mustTatami, tatami } from './support.ts';

const SIZE = 6_000_000;

interface FsckJson {
  readonly troubles: readonly { kind: string; paths: readonly string[]; nodes: readonly string[]; block: string }[];
}

describe('a byte flipped in a pack', () => {
  let cluster: TestCluster;
  let data: Buffer;
  beforeEach(async () => {
    cluster = await TestCluster.start({ nodes: 3, copies: 2 });
    data = randomBytes(SIZE);
    writeFileSync(join(cluster.mount, 'precious'), data);
    await cluster.restartCold();
  });
  afterEach(() => cluster.destroy());

  /** Flips one byte of every stored copy of the file's bytes after `offset`, on at most `most` nodes; which ones. Twice makes it right. */
  async function flip(offset: number, most: number, nodes = ['n1', 'n2', 'n3']): Promise<string[]> {
    await cluster.down();
    const needle = data.subarray(offset, offset + 64);
    const flipped: string[] = [];
    for (const node of nodes) {
      if (flipped.length === most) break;
      const blocks = join(cluster.data, 'nodes', node, 'blocks');
      for (const file of filesBelow(blocks)) {
        const found = readFileSync(file).indexOf(needle);
        if (found < 0) continue;
        const at = found + needle.length;
        const fd = openSync(file, 'r+');
        const byte = Buffer.alloc(1);
        readSync(fd, byte, 0, 1, at);
        writeSync(fd, Buffer.of((byte[0] ?? 0) ^ 0x40), 0, 1, at);
        closeSync(fd);
        flipped.push(node);
      }
    }
    await cluster.up();
    return flipped;
  }

  /**
   * Damages the copy that a cold reader asks for, and reads. Which holder that is follows from the block's hash, but a
   * slow answer can change it, so the holders are tried in turn: one that was not asked is made right again.
   */
  async function damageWhereRead(): Promise<string> {
    for (let attempt = 0; attempt < 4; attempt++) {
      for (const node of ['n1', 'n2', 'n3']) {
        if ((await flip(1_000_000, 1, [node])).length === 0) continue;
        expect(readFileSync(join(cluster.mount, 'precious')).equals(data)).toBe(true);
        const { nodes } = await cluster.status();
        if (nodes.some((each) => each.damage.length > 0)) return node;
        expect(await flip(1_000_000, 1, [node])).toEqual([node]);
      }
    }
    throw new Error('no cold read came upon the damaged copy');
  }

  it('on one node is read around, mended and reported with node, block and path', async () => {
    // One block.
    data = randomBytes(3_000_000);
    writeFileSync(join(cluster.mount, 'precious'), data);
    const node = await damageWhereRead();
    const status = await cluster.waitFor('mended', (now) =>
      now.nodes.some((each) => each.damage.some((one) => one.healed)),
    );
    const damaged = status.nodes.find((each) => each.damage.length > 0);
    expect(damaged?.id).toBe(node);
    expect(status.findings.some((finding) => finding.text.includes(`Node ${node} found 1 damaged`))).toBe(true);
    const report = JSON.parse(await mustTatami(['fsck', '--json', '--data', cluster.data])) as FsckJson;
    // Pieces that were written and then replaced are used by no file any more.
    const troubles = report.troubles.filter((trouble) => trouble.kind !== 'orphaned');
    expect(troubles).toMatchObject([{ kind: 'mended-copy', paths: ['/precious'], nodes: [node] }]);
    expect(troubles[0]?.block).toBe(damaged?.damage[0]?.id);
    const said = await mustTatami(['fsck', '/precious', '--data', cluster.data]);
    expect(said).toContain('/precious');
  });

  it('in all copies gives EIO and names the file; the rest stays readable', async () => {
    expect(await flip(1_000_000, 3)).toHaveLength(2);
    const path = join(cluster.mount, 'precious');
    expect(() => readFileSync(path)).toThrow(/EIO/);
    // Bytes of the undamaged block are still given out.
    const fd = openSync(path, 'r');
    const tail = Buffer.alloc(100_000);
    const from = 5_000_000;
    expect(readSync(fd, tail, 0, tail.length, from)).toBe(tail.length);
    expect(tail.equals(data.subarray(from, from + tail.length))).toBe(true);
    closeSync(fd);
    const checked = await tatami(['fsck', '--data', cluster.data]);
    expect(checked.code).toBe(4);
    expect(checked.stdout).toContain('/precious');
    const status = await cluster.status();
    expect(status.health).toBe('degraded');
  });
});

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path).isFile() && statSync(path).size > 0);
}
