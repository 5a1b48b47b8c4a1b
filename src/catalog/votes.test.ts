import { describe, expect, it } from 'vitest';
import { MemoryDisk } from '../env-memory.ts';
import { FormatError } from '../errors.ts';
import type { Epoch, HistoryId, NodeId } from '../ids.ts';
import { NodeDirectory } from '../node-directory.ts';
import { applyChange, firstCatalog } from './document.ts';
import { decodeVotes, encodeVotes, firstVotes } from './votes.ts';
import type { VoterState } from './votes.ts';

const STORE = 'f'.repeat(16);
const n1 = 'n1' as NodeId;
const self = { id: n1, storeId: STORE, address: 'h:1', weight: 1, host: 'h', rack: 'r', zone: 'z' };
const catalog = firstCatalog({ clusterId: 'ab'.repeat(16), historyId: '1'.repeat(16) as HistoryId, nodes: [self] });
const next = applyChange(catalog, { kind: 'putNode', node: { ...self, address: 'h:2' } }, 'a'.repeat(16));
const state: VoterState = {
  promised: { round: 7, node: n1 },
  accepted: { epoch: 2 as Epoch, ballot: { round: 5, node: n1 }, value: { proposal: 'a'.repeat(16), catalog: next } },
};

describe('votes on disk', () => {
  it('are read as they were written', () => {
    expect(decodeVotes(encodeVotes(STORE, state), STORE)).toEqual({ fit: true, state });
    expect(decodeVotes(firstVotes(STORE), STORE)).toEqual({ fit: true, state: { promised: null, accepted: null } });
  });

  it('R11: are lost when missing, of another store, or changed in any byte', () => {
    expect(decodeVotes(undefined, STORE)).toMatchObject({ fit: false, reason: expect.stringMatching('missing') });
    expect(decodeVotes(firstVotes('e'.repeat(16)), STORE)).toMatchObject({ fit: false });
    const bytes = encodeVotes(STORE, state);
    const content = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
    expect(content['promised']).toEqual([7, 'n1']);
    for (let at = 0; at < bytes.length; at++) {
      const spoilt = bytes.slice();
      spoilt[at]! ^= 1;
      let votes;
      try {
        votes = decodeVotes(spoilt, STORE);
      } catch (error) {
        // The byte of the version alone: it may be a newer one.
        expect(error).toBeInstanceOf(FormatError);
        continue;
      }
      // White space is not content.
      if (votes.fit) expect(votes.state).toEqual(state);
    }
  });

  it('refuse a newer format', () => {
    const text = new TextDecoder().decode(firstVotes(STORE)).replace('"formatVersion": 1', '"formatVersion": 9');
    expect(() => decodeVotes(new TextEncoder().encode(text), STORE)).toThrow(FormatError);
  });
});

describe('a data directory', () => {
  const identity = { clusterId: 'ab'.repeat(16), nodeId: n1, storeId: STORE };

  it('is made with its first votes, which are missed when they are gone', async () => {
    const disk = new MemoryDisk();
    const directory = new NodeDirectory(disk, '/node');
    await directory.create(identity, catalog);
    const store = await directory.openVotes(identity);
    expect(store.votes.fit).toBe(true);
    await store.save(state);
    expect((await directory.openVotes(identity)).votes).toEqual({ fit: true, state });
    await disk.remove('/node/votes.json');
    expect((await directory.openVotes(identity)).votes).toMatchObject({ fit: false });
    expect((await directory.openVotes(identity)).votes).toMatchObject({ fit: false });
  });

  it('of the first format gets its first votes once', async () => {
    const disk = new MemoryDisk();
    const directory = new NodeDirectory(disk, '/node');
    await directory.create(identity, catalog);
    await disk.remove('/node/votes.json');
    const old = JSON.stringify({ formatVersion: 1, ...identity });
    await disk.writeFileAtomic('/node/node.json', new TextEncoder().encode(old));
    expect((await directory.load(identity.clusterId)).identity).toMatchObject(identity);
    expect((await directory.openVotes(identity)).votes.fit).toBe(true);
    await disk.remove('/node/votes.json');
    expect((await directory.openVotes(identity)).votes.fit).toBe(false);
  });
});
