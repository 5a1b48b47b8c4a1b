/** The damage that nodes remember, with the files that it was in. */
import type { MetaClient } from '../meta/types.ts';
import { blockName, usesOfBlocks, type BlockUse } from './block-uses.ts';
import type { ClusterStatus, DamageRecord } from './status.ts';

export interface NamedDamage extends DamageRecord {
  readonly node: string;
  /** Undefined: not looked up. Empty: no file uses the block (any more). */
  readonly uses: readonly BlockUse[] | undefined;
}

/** What the nodes that answer have on record, oldest first; without names. */
export function damageOf({ nodes }: Pick<ClusterStatus, 'nodes'>): NamedDamage[] {
  return nodes
    .flatMap(({ id, report }) => (report?.damage ?? []).map((record) => ({ ...record, node: id, uses: undefined })))
    .sort((a, b) => a.foundAtMs - b.foundAtMs);
}

export async function nameDamage(meta: MetaClient, damage: readonly NamedDamage[]): Promise<NamedDamage[]> {
  const uses = await usesOfBlocks(meta, damage);
  return damage.map((one) => ({ ...one, uses: uses.get(blockName(one.pool, one.id)) ?? [] }));
}
