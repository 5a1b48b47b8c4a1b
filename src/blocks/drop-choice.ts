/** What a cache of blocks drops (V-FIELD): of what was used longest ago, what most others have. Pure. */

/** Of so many that were used longest ago. */
const DROP_CHOICE = 8;

/** `candidates`: what may be dropped, the one used longest ago first; read no further than needed. Undefined if there is none. */
export function chooseDropped<T>(candidates: Iterable<T>, copiesElsewhere: (candidate: T) => number): T | undefined {
  let choice: T | undefined;
  let mostCopies = -1;
  let count = 0;
  for (const candidate of candidates) {
    const copies = copiesElsewhere(candidate);
    if (choice === undefined || copies > mostCopies) {
      choice = candidate;
      mostCopies = copies;
    }
    if (++count === DROP_CHOICE) break;
  }
  return choice;
}
