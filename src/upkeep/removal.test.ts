import { expect, it } from 'vitest';
import { firstCatalog } from '../catalog/document.ts';
import { testNode } from '../catalog/testing.ts';
import type { CatalogService } from '../catalog/types.ts';
import { FsError } from '../errors.ts';
import type { HistoryId, NodeId } from '../ids.ts';
import type { MetaClient } from '../meta/types.ts';
import type { Network } from '../net/types.ts';
import { lossWithout } from './removal.ts';

it('what is lost with a node is told, whatever is removed while it is looked for', async () => {
  const nodes = [testNode(1), testNode(2)];
  const current = firstCatalog({ clusterId: 'ab'.repeat(16), historyId: '1'.repeat(16) as HistoryId, nodes });
  const extent = (ino: number) => ({
    ino,
    extent: { kind: 'block', offset: 0, lengthBytes: 9, pool: 1, id: new Uint8Array(32).fill(ino), blockBytes: 9 },
  });
  const query = ({ op, ino }: { op: string; ino: number }) => {
    if (op === 'allExtents') return Promise.resolve({ items: [extent(2), extent(3)], more: false });
    return ino === 2 ? Promise.reject(new FsError('ENOENT')) : Promise.resolve({ paths: [Buffer.from('/there')] });
  };
  const call = () => Promise.resolve({ header: { lengths: [null, null] } });
  const loss = await lossWithout({
    network: { call } as unknown as Network,
    catalog: { current: () => current } as unknown as CatalogService,
    meta: { query } as unknown as MetaClient,
    without: 'n1' as NodeId,
  });
  expect(loss).toMatchObject({ lostCount: 2, lostBytes: 18, paths: [Buffer.from('/there')], silent: [] });
});
