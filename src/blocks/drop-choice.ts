/** What a cache of blocks drops (V-FIELD): of what was used longest ago, what most others have. Pure. */

/** Of so many that were used longest ago. */
const DROP_CHOICE = 8;

export interface DropChoice<T> {
  /** Used longest ago of all. */
  readonly oldest: T;
  /** To be dropped. */
  readonly dropped: T;
}

/** `candidates`: what may be dropped, the one used longest ago first; read no further than needed. Undefined if there is none. */
export function chooseDropped<T>(
  candidates: Iterable<T>,
  copiesElsewhere: (candidate: T) => number,
): DropChoice<T> | undefined {
  let choice: DropChoice<T> | undefined;
  let mostCopies = -1;
  let count = 0;
  for (const candidate of candidates) {
    const copies = copiesElsewhere(candidate);
    if (choice === undefined || copies > mostCopies) {
      choice = { oldest: choice?.oldest ?? candidate, dropped: candidate };
      mostCopies = copies;
    }
    if (++count === DROP_CHOICE) break;
  }
  return choice;
}
