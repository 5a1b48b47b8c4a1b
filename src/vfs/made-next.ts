/**
 * Programs that walk a large directory (`du`, `rm -r`, `find -size`, `tar` after sorting) first read all its names and then look each up, in the order
 * of inode numbers, which is that of a disk. By then what the listing told may have expired (longer than it is kept; Linux before 6.2 keeps names for a second). So who looks up a few names whose numbers
 * follow each other is served ahead: one question brings the next few hundred names of the directory, in that order.
 */
import type { Ino } from '../ids.ts';
import type { QueryOf, QueryResults } from '../meta/types.ts';

/** Directories that are watched, those looked into last. */
const WALKS_KEPT = 16;
/** Numbers of two names that follow each other are no further apart: what lies between was removed, or is elsewhere. */
const STEP_MAX = 64;
/** So many in a row are no chance. */
const RUN_MIN = 4;
/** Asked for at first; it doubles while most of it is of this directory, and is cut when a name has expired before it was looked up. */
const FIRST_LIMIT = 64;
const LIMIT_MIN = 16;
const LIMIT_MAX = 512;
/** Lookups until the next try, where it was of no use: numbers of several directories alternate, or the servers are older. */
const PAUSE = 1_000;

interface Walk {
  lastIno: Ino;
  /** Lookups in a row; below 0 while there is a pause. */
  run: number;
  /** Names up to here were asked for. */
  upToIno: number;
  limit: number;
  isAsking: boolean;
}

export interface MadeNextOptions {
  readonly ask: (query: QueryOf<'madeNext'>) => Promise<QueryResults['madeNext']>;
  /** Called at once before each question; what it returns takes in the answer. */
  readonly learner: (directory: Ino) => (entries: QueryResults['madeNext']['entries']) => void;
  readonly background: (work: Promise<void>) => void;
}

export class MadeNext {
  readonly #options: MadeNextOptions;
  /** By directory, the one looked into last at the end. */
  readonly #walks = new Map<Ino, Walk>();

  constructor(options: MadeNextOptions) {
    this.#options = options;
  }

  /** A name of this inode was looked up there. `wasKnown`: no question was needed. */
  lookedUp(directory: Ino, ino: Ino, wasKnown: boolean): void {
    const walk = this.#walks.get(directory);
    if (walk === undefined) {
      if (!wasKnown) this.#begin(directory, ino);
      return;
    }
    const follows = ino > walk.lastIno && ino - walk.lastIno <= STEP_MAX;
    walk.lastIno = ino;
    if (follows && !wasKnown && ino <= walk.upToIno && !walk.isAsking) {
      walk.limit = Math.max(LIMIT_MIN, walk.limit / 4);
      walk.upToIno = 0;
    }
    if (walk.run < 0) walk.run += 1;
    else if (follows) walk.run += 1;
    else {
      walk.run = 0;
      walk.upToIno = 0;
      walk.limit = FIRST_LIMIT;
    }
    if (walk.run < RUN_MIN || walk.isAsking) return;
    // Of those asked for, half are still to come: the next ones are here before they are gone.
    if (ino + walk.limit / 2 < walk.upToIno) return;
    this.#options.background(this.#ask(directory, walk, Math.max(ino, walk.upToIno) as Ino));
  }

  #begin(directory: Ino, ino: Ino): void {
    if (this.#walks.size >= WALKS_KEPT) {
      for (const oldest of this.#walks.keys()) {
        this.#walks.delete(oldest);
        break;
      }
    }
    this.#walks.set(directory, { lastIno: ino, run: 0, upToIno: 0, limit: FIRST_LIMIT, isAsking: false });
  }

  async #ask(directory: Ino, walk: Walk, after: Ino): Promise<void> {
    walk.isAsking = true;
    try {
      const { limit } = walk;
      const learn = this.#options.learner(directory);
      const { entries, upToIno } = await this.#options.ask({ op: 'madeNext', ino: directory, after, limit });
      learn(entries);
      walk.upToIno = upToIno;
      if (entries.length < limit / 8 || upToIno <= after) pause(walk, upToIno === Number.MAX_SAFE_INTEGER);
      else if (entries.length > limit / 2) walk.limit = Math.min(LIMIT_MAX, limit * 2);
    } catch {
      // Whoever looks up the next name is told what is wrong.
      pause(walk, false);
    } finally {
      walk.isAsking = false;
    }
  }
}

/** `isEnd`: nothing was made later, so the walk ends by itself. */
function pause(walk: Walk, isEnd: boolean): void {
  if (isEnd) return;
  walk.run = -PAUSE;
  walk.upToIno = 0;
  walk.limit = FIRST_LIMIT;
}
