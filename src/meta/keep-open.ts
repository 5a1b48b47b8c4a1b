import type { Ino } from '../ids.ts';

/**
 * Whether a session has the file open that loses its name by what it asks for; or which file it is that it has not, since
 * another one may have the name by then.
 */
export type KeepOpen = boolean | { readonly unless: Ino };

export function isKeptOpen(keepOpen: KeepOpen, victim: Ino): boolean {
  return typeof keepOpen === 'boolean' ? keepOpen : keepOpen.unless !== victim;
}
