/** Damage for people and for programs: by path, where files use it. */
import { isUtf8 } from 'node:buffer';
import { TatamiError } from '../errors.ts';
import { nameDamage, type NamedDamage } from '../upkeep/damage.ts';
import type { WhereOptions } from './cluster-files.ts';
import { shownName } from './file-names.ts';
import { ago } from './times.ts';
import { withClient } from './with-cluster.ts';

/** Asks the metadata for the names. Where that is not served just now, the damage is told of without: `unnamed` says why. */
export async function withNames(
  options: WhereOptions,
  damage: readonly NamedDamage[],
): Promise<{ readonly damage: readonly NamedDamage[]; readonly unnamed?: string }> {
  if (damage.length === 0) return { damage };
  try {
    return { damage: await withClient(options, 'tatami damage', ({ meta }) => nameDamage(meta, damage)) };
  } catch (error) {
    if (!(error instanceof TatamiError)) throw error;
    return { damage, unnamed: error.message };
  }
}

export function damageLines(damage: readonly NamedDamage[]): string[] {
  return damage.map((one) => {
    const { node, id, healed, foundAtMs, foundBy } = one;
    const what = healed ? 'mended' : 'damaged';
    const by = foundBy === 'scrub' ? 'by the scrub' : 'when it was read';
    return `${what}: ${whereText(one)} (block ${id.slice(0, 16)}… on ${node}, found ${by} ${ago(foundAtMs)})`;
  });
}

function whereText({ uses }: NamedDamage): string {
  if (uses === undefined) return 'file not known';
  if (uses.length === 0) return 'no file uses it';
  return uses
    .map(({ ino, offset, paths }) => {
      const names = paths.length > 0 ? paths.map(shownName).join(' = ') : `(inode ${ino}, deleted but open)`;
      return `${names} at ${offset}`;
    })
    .join(', ');
}

/** The documented shape. */
export function damageJson({ node, pool, id, foundAtMs, healedAtMs, foundBy, healed, uses }: NamedDamage) {
  return {
    ...{ node, pool, block: id, healed, foundAtMs, healedAtMs: healedAtMs ?? null, foundBy: foundBy ?? 'read' },
    uses: uses?.map(({ ino, offset, paths }) => ({ ino, offset, ...namesJson(paths) })) ?? null,
  };
}

/** Names are bytes: those that are no text are given in base64 as well. */
export function namesJson(paths: readonly Uint8Array[]) {
  const isText = paths.every((path) => isUtf8(path));
  return {
    paths: paths.map((path) => Buffer.from(path).toString()),
    ...(isText ? {} : { pathsBase64: paths.map((path) => Buffer.from(path).toString('base64')) }),
  };
}
