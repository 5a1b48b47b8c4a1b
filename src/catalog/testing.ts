/** For tests of what is calculated from catalogs. */
import type { NodeId } from '../ids.ts';
import type { CatalogNode } from './types.ts';

/** n1, n2, ...: each on a host of its own, all of one size. */
export function testNode(number: number, changes: Partial<CatalogNode> = {}): CatalogNode {
  return {
    id: `n${number}` as NodeId,
    storeId: `${number}`.padStart(16, '0'),
    address: `127.0.0.1:${7400 + number}`,
    weight: 100,
    host: `h${number}`,
    rack: 'rack',
    zone: 'zone',
    ...changes,
  };
}
