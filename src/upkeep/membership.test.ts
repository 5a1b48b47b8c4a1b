import { describe, expect, it } from 'vitest';
import type { Catalog, CatalogService } from '../catalog/types.ts';
import { UnavailableError } from '../errors.ts';
import type { NodeId } from '../ids.ts';
import { setDraining, type Asking } from './membership.ts';

const N1 = 'n1' as NodeId;

describe('a change of the nodes', () => {
  /** A node that answers, and a catalog that never comes with the answer. */
  function asked(confirm: () => Promise<Catalog>): Promise<void> {
    const network = {
      peer: () => ({ state: 'up' }),
      call: () => Promise.resolve({ header: { epoch: 7 } }),
    } as unknown as Asking['network'];
    const catalog = {
      current: () => ({ epoch: 6, nodes: [{ id: N1 }] }),
      subscribe: () => () => undefined,
      confirm,
    } as unknown as CatalogService;
    return setDraining({ network, catalog }, N1, true);
  }

  it('is known also if the node that made it goes before its catalog has come', async () => {
    await expect(asked(() => Promise.resolve({ epoch: 7 } as Catalog))).resolves.toBeUndefined();
  });

  it('is not waited for for ever', async () => {
    await expect(asked(() => Promise.reject(new UnavailableError('no majority')))).rejects.toThrow('no majority');
  });
});
