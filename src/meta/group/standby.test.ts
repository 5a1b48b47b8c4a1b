import { describe, expect, it } from 'vitest';
import { applyChange, firstCatalog } from '../../catalog/document.ts';
import type { CatalogNode, Group } from '../../catalog/types.ts';
import type { HistoryId, NodeId } from '../../ids.ts';
import { GRACE_MS } from './lease.ts';
import { PROPOSE_AGAIN_MS, Standby } from './standby.ts';

const node = (id: string): CatalogNode => ({
  id: id as NodeId,
  storeId: '0'.repeat(16),
  address: `${id}:1`,
  weight: 1,
  host: id,
  rack: 'r',
  zone: 'z',
});
const catalog = firstCatalog({
  clusterId: 'ab'.repeat(16),
  historyId: '1'.repeat(16) as HistoryId,
  nodes: ['p', 's', 'l'].map(node),
});
const group = catalog.groups[0] as Group;
const S = 's' as NodeId;

describe('a secondary', () => {
  it('proposes itself when nothing has arrived for the grace, and not before', () => {
    const standby = new Standby(S, group, 0);
    standby.heard(1_000);
    expect(standby.wants(1_000 + GRACE_MS, false, true)).toBeUndefined();
    const wanted = standby.wants(1_001 + GRACE_MS, false, true);
    expect(wanted).toMatchObject({ epoch: 2, primary: 's', secondary: null, learners: ['l', 'p'] });
    // R7: not activated by itself. And the catalog takes it (R2).
    expect(wanted?.lastActivated).toEqual(group.lastActivated);
    const change = { kind: 'putGroup', group: wanted as Group, expectedGroupEpoch: group.epoch } as const;
    expect(applyChange(catalog, change).groups[0]).toEqual(wanted);
  });

  it('counts the grace anew after it stood still itself', () => {
    const standby = new Standby(S, group, 0);
    standby.stalled(60_000);
    expect(standby.wants(60_000 + GRACE_MS, false, true)).toBeUndefined();
  });

  it('asks again until it knows, also if the primary is heard once more: it has given the epoch up', () => {
    const standby = new Standby(S, group, 0);
    const nowMs = GRACE_MS + 1;
    expect(standby.wants(nowMs, false, true)).toBeDefined();
    standby.heard(nowMs);
    expect(standby.wants(nowMs + 1, true, true)).toBeUndefined();
    expect(standby.wants(nowMs + PROPOSE_AGAIN_MS, true, true)).toBeDefined();
  });

  it('never proposes itself with a log that may have lost what it acknowledged (R11)', () => {
    expect(new Standby(S, group, 0).wants(1e6, false, false)).toBeUndefined();
  });

  it('never proposes itself if it was not in sync at the last activation (R2)', () => {
    const other = { ...group, lastActivated: { epoch: group.epoch, members: ['p' as NodeId] } };
    expect(new Standby(S, other, 0).wants(1e6, false, true)).toBeUndefined();
  });
});
