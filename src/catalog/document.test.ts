import { describe, expect, it } from 'vitest';
import { ConflictError, FormatError, UsageError } from '../errors.ts';
import type { Epoch, GroupId, HistoryId, NodeId, PoolId } from '../ids.ts';
import {
  applyChange,
  dataNodes,
  decodeCatalog,
  encodeCatalog,
  firstCatalog,
  groupOfIno,
  outcomeOf,
} from './document.ts';
import { CATALOG_FORMAT_VERSION } from './types.ts';
import type { Catalog, Group } from './types.ts';
import { testNode as node } from './testing.ts';

function catalogOf(count: number): Catalog {
  return firstCatalog({
    clusterId: 'ab'.repeat(16),
    historyId: '0123456789abcdef' as HistoryId,
    nodes: Array.from({ length: count }, (_, index) => node(index + 1)),
  });
}

function onlyGroup(catalog: Catalog): Group {
  const [group] = catalog.groups;
  if (group === undefined) throw new Error('no group');
  return group;
}

describe('the first catalog', () => {
  it('puts primary and secondary on different nodes, both activated', () => {
    const group = onlyGroup(catalogOf(3));
    expect(group).toMatchObject({ primary: 'n1', secondary: 'n2', learners: ['n3'], minReplicas: 2 });
    expect(group.lastActivated).toEqual({ epoch: 1, members: ['n1', 'n2'] });
  });

  it('serves alone on one node', () => {
    expect(onlyGroup(catalogOf(1))).toMatchObject({ primary: 'n1', secondary: null, minReplicas: 1 });
  });

  it('survives being written and read', () => {
    const rootOwner = { uid: 1000, gid: 1000 };
    const catalog = { ...catalogOf(3), rootOwner };
    expect(decodeCatalog(encodeCatalog(catalog))).toEqual(catalog);
  });
});

describe('changes', () => {
  it('let a node join as a learner of every group, with the activated members carried over', () => {
    const next = applyChange(catalogOf(1), { kind: 'putNode', node: node(2) });
    expect(next.epoch).toBe(2);
    expect(onlyGroup(next)).toMatchObject({ epoch: 2, learners: ['n2'], lastActivated: { epoch: 2, members: ['n1'] } });
    expect(next.pools.every((pool) => pool.placementEpoch === 2)).toBe(true);
  });

  it('refuse another store under an old name', () => {
    const change = { kind: 'putNode', node: node(1, { storeId: 'f'.repeat(16) }) } as const;
    expect(() => applyChange(catalogOf(1), change)).toThrow(ConflictError);
  });

  it('refuse two nodes at one address', () => {
    const change = { kind: 'putNode', node: node(2, { address: '127.0.0.1:7401' }) } as const;
    expect(() => applyChange(catalogOf(1), change)).toThrow(FormatError);
  });

  it('keep placement where it is when only an address changes', () => {
    const next = applyChange(catalogOf(2), { kind: 'putNode', node: node(2, { address: '127.0.0.1:9' }) });
    expect(next.pools.every((pool) => pool.placementEpoch === 1)).toBe(true);
  });

  it('R1: are compared with the group epoch', () => {
    const catalog = catalogOf(3);
    const group = { ...onlyGroup(catalog), epoch: 2 as Epoch, secondary: null };
    const change = { kind: 'putGroup', group, expectedGroupEpoch: 1 as Epoch } as const;
    const next = applyChange(catalog, change);
    expect(onlyGroup(next).secondary).toBeNull();
    expect(() => applyChange(next, change)).toThrow(ConflictError);
  });

  it('R2: promote only members of the last activation', () => {
    const catalog = catalogOf(3);
    const group: Group = {
      ...onlyGroup(catalog),
      epoch: 2 as Epoch,
      primary: 'n3' as NodeId,
      learners: ['n1' as NodeId],
    };
    expect(() => applyChange(catalog, { kind: 'putGroup', group, expectedGroupEpoch: 1 as Epoch })).toThrow(/R2/);
  });

  it('never remove a serving node', () => {
    expect(() => applyChange(catalogOf(3), { kind: 'removeNode', id: 'n1' as NodeId })).toThrow(UsageError);
    expect(() => applyChange(catalogOf(3), { kind: 'removeNode', id: 'n2' as NodeId })).toThrow(/still serves g0/);
    expect(applyChange(catalogOf(4), { kind: 'removeNode', id: 'n4' as NodeId }).nodes).toHaveLength(3);
  });

  it('add or take away one voter at a time', () => {
    const change = (voters: string[]) => ({ kind: 'putVoters', voters: voters as NodeId[] }) as const;
    expect(applyChange(catalogOf(4), change(['n1', 'n2', 'n3', 'n4'])).voters).toHaveLength(4);
    expect(applyChange(catalogOf(4), change(['n1', 'n3'])).voters).toEqual(['n1', 'n3']);
    expect(() => applyChange(catalogOf(4), change(['n1', 'n2', 'n4']))).toThrow(/one at a time/);
    expect(() => applyChange(catalogOf(4), change(['n1', 'n2', 'n3']))).toThrow(/one at a time/);
    expect(() => applyChange(catalogOf(4), change(['n1', 'n2', 'n3', 'n9']))).toThrow(/n9 is not a node/);
  });

  it('let a witness join and leave without moving anything', () => {
    const before = catalogOf(2);
    const next = applyChange(before, { kind: 'putNode', node: node(3, { kind: 'witness' }) });
    expect(dataNodes(next).map(({ id }) => id)).toEqual(['n1', 'n2']);
    expect(next.groups).toEqual(before.groups);
    expect(next.pools).toEqual(before.pools);
    expect(() => applyChange(next, { kind: 'putNode', node: node(3) })).toThrow(/is witness and stays so/);
    const group = { ...onlyGroup(next), epoch: 2 as Epoch, learners: ['n3' as NodeId] };
    expect(() => applyChange(next, { kind: 'putGroup', group, expectedGroupEpoch: 1 as Epoch })).toThrow(/witness n3/);
    const after = applyChange(next, { kind: 'removeNode', id: 'n3' as NodeId });
    expect(after.groups).toEqual(before.groups);
    expect(after.pools).toEqual(before.pools);
  });

  it('are refused if nobody could read what comes of them', () => {
    // Passes for "not named" where the change is checked, and takes the place of the number all the same.
    const set = { blockSizeBytes: undefined } as unknown as { blockSizeBytes: number };
    expect(() => applyChange(catalogOf(3), { kind: 'setPool', id: 1 as PoolId, set })).toThrow(FormatError);
    expect(() => applyChange(catalogOf(3), { kind: 'setCollectEvery', everyMs: 1.5 })).toThrow(FormatError);
  });

  it('name who made them, so that a proposer can tell whether it won', () => {
    const one = applyChange(catalogOf(1), { kind: 'putNode', node: node(2) }, '1'.repeat(16));
    const two = applyChange(one, { kind: 'putNode', node: node(3) }, '2'.repeat(16));
    expect(outcomeOf(two, 1 as Epoch, '1'.repeat(16))).toBe('won');
    expect(outcomeOf(two, 1 as Epoch, '3'.repeat(16))).toBe('lost');
    expect(outcomeOf(two, 3 as Epoch, '3'.repeat(16))).toBe('open');
    let latest = two;
    for (let round = 0; round < 100; round++) {
      const proposal = round.toString(16).padStart(16, '0');
      latest = applyChange(latest, { kind: 'putNode', node: node(3, { address: `h:${round}` }) }, proposal);
    }
    expect(latest.recent).toHaveLength(64);
    expect(latest.recent?.at(-1)).toEqual({ epoch: latest.epoch, proposal: '63'.padStart(16, '0') });
  });

  it('stamp a changed pool with the epoch', () => {
    const catalog = catalogOf(3);
    const [pool] = catalog.pools;
    if (pool === undefined) throw new Error('no pool');
    const next = applyChange(catalog, { kind: 'setPool', id: pool.id, set: { copies: 2 } });
    expect(next.pools.find((other) => other.id === (1 as PoolId))).toMatchObject({ copies: 2, placementEpoch: 2 });
  });
});

describe('reading a catalog', () => {
  it('takes one of format 1, which has one voter, and writes its next epoch as the present format', () => {
    const { recent: _, ...old } = { ...catalogOf(3), formatVersion: 1, voters: ['n1'] };
    const catalog = decodeCatalog(new TextEncoder().encode(JSON.stringify(old)));
    expect(catalog.voters).toEqual(['n1']);
    const next = applyChange(catalog, { kind: 'putVoters', voters: ['n1', 'n2'] as NodeId[] }, '1'.repeat(16));
    expect(next).toMatchObject({
      formatVersion: CATALOG_FORMAT_VERSION,
      recent: [{ epoch: 2, proposal: '1'.repeat(16) }],
    });
  });

  it('refuses a newer format with a remedy', () => {
    const bytes = new TextEncoder().encode(JSON.stringify({ ...catalogOf(1), formatVersion: 99 }));
    expect(() => decodeCatalog(bytes)).toThrow(/format 99/);
  });

  it.each([
    ['not JSON', 'x'],
    ['an unknown voter', JSON.stringify({ ...catalogOf(1), voters: ['n9'] })],
    ['a missing part', JSON.stringify({ ...catalogOf(1), pools: undefined })],
    ['tablets that leave out inode 1', JSON.stringify({ ...catalogOf(1), tablets: [{ firstIno: 2, group: 'g0' }] })],
  ])('refuses %s', (_, text) => {
    expect(() => decodeCatalog(new TextEncoder().encode(text))).toThrow(FormatError);
  });

  it('routes an inode by the tablets', () => {
    const catalog = catalogOf(1);
    const second = { ...onlyGroup(catalog), id: 'g1' as GroupId };
    const split = {
      ...catalog,
      groups: [...catalog.groups, second],
      tablets: [...catalog.tablets, { firstIno: 1000, group: 'g1' }],
    } as Catalog;
    expect(groupOfIno(split, 999).id).toBe('g0');
    expect(groupOfIno(split, 1000).id).toBe('g1');
  });
});
