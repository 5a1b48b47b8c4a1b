/**
 * Files that have lost their last name and may be open, here or elsewhere: the servers keep them for as long as a mount says
 * that it has them open (docs/decisions/0015-appends-and-unlinked-files.md).
 */
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import type { Attr } from '../meta/types.ts';
import { WALK_MS } from './contested-names.ts';
import type { FileData } from './file-data.ts';
import type { Inode } from './inode-table.ts';
import type { MountState } from './mount-state.ts';

export class Nameless {
  readonly #state: MountState;
  /** The servers are being told which are open here. One for each group at most. */
  readonly #keeping = new Set<Promise<void>>();

  constructor(state: MountState) {
    this.#state = state;
    state.meta.onUnlinked?.((inos, keep) => this.#unlinkedElsewhere(inos, keep));
  }

  /** Which of these are open here: the servers keep those until they are closed. */
  async #unlinkedElsewhere(inos: readonly Ino[], keep: (open: readonly Ino[]) => Promise<void>): Promise<void> {
    const { opens, inodes, contested, clock } = this.#state;
    await Promise.allSettled([...opens]);
    const open = inos.filter((ino) => {
      const inode = inodes.get(ino);
      const isFound = contested.mayOpen(ino, clock.monotonicMs());
      if (inode === undefined || inode.gone || (inode.openCount === 0 && !isFound)) {
        contested.denied(ino);
        return false;
      }
      inode.orphan = true;
      inode.keptCount += 1;
      inode.attrExpiresMs = 0;
      if (inode.openCount === 0) this.#awaitWalk(inode);
      return true;
    });
    // Known to whoever closes one from now on.
    const keeping = Promise.resolve().then(() => keep(open));
    this.#keeping.add(keeping);
    try {
      await keeping;
    } finally {
      this.#keeping.delete(keeping);
    }
  }

  /** ENOENT for a file that others have open, which is why it is still there, and nobody here: the name that led to it is gone. */
  refuse({ attr }: Inode): void {
    if (attr.nlink > 0) return;
    // Whoever comes by the name again asks what is there now.
    this.#state.contestNameOf(attr.ino);
    throw new FsError('ENOENT', 'the file was removed');
  }

  /** A name was taken away by an own change. */
  lostName(victim: Attr, keptOpen: boolean, askedAt: number): void {
    const { contested, clock, inodes, writeBack, watched } = this.#state;
    const inode = this.#state.changed(victim, askedAt);
    if (victim.nlink > 0) {
      // The kernel counts the link off, and sets a time of its own.
      watched.kernel.changed({ inos: [victim.ino], names: [] });
      return;
    }
    if (inode.mayBeOpen) {
      // Opened while it was being removed: the servers ask, or have destroyed it.
      if (keptOpen) {
        inode.orphan = true;
      } else {
        contested.denied(inode.ino);
        inode.attrExpiresMs = 0;
      }
      return;
    }
    if (keptOpen && contested.mayOpen(inode.ino, clock.monotonicMs())) {
      inode.orphan = true;
      this.#awaitWalk(inode);
      return;
    }
    contested.denied(inode.ino);
    inode.gone = true;
    if (inode.data !== undefined) writeBack.discard(inode.data);
    const file = inode.data;
    inode.data = inode.openCount > 0 ? file : undefined;
    if (keptOpen && victim.type !== 'directory') this.#release(victim.ino, file);
    // Programs that are in the directory still look at it: nobody else can tell them what it is.
    if (victim.type === 'directory' && inode.kernelRefs > 0) return;
    inodes.drop(inode);
  }

  /** An open may be on its way to a file without a name: by then it has come, or will not. */
  #awaitWalk(found: Inode): void {
    const { clock, inodes } = this.#state;
    clock.setTimer(WALK_MS, () => {
      const inode = inodes.get(found.ino) ?? found;
      if (inode.orphan && !inode.gone && inode.openCount === 0 && !this.#state.isClosed) this.#giveUp(inode);
    });
  }

  /** The last handle of a file that the servers keep for this mount is closed. */
  closed(inode: Inode): void {
    const { contested, clock } = this.#state;
    if (contested.mayOpen(inode.ino, clock.monotonicMs())) this.#awaitWalk(inode);
    else this.#giveUp(inode);
  }

  #giveUp(inode: Inode): void {
    const file = inode.data;
    this.#state.contested.denied(inode.ino);
    inode.gone = true;
    if (file !== undefined) this.#state.writeBack.discard(file);
    inode.data = undefined;
    this.#release(inode.ino, file);
    this.#state.inodes.drop(inode);
  }

  /** The servers may now destroy it. After its last commit, which would else find no inode. */
  #release(ino: Ino, file: FileData | undefined): void {
    const release = async (): Promise<void> => {
      // It may be among those that the servers are just told to keep.
      await Promise.allSettled([...this.#keeping]);
      await this.#state.mutate({ op: 'releaseOrphan', ino });
    };
    const released = file === undefined ? release() : file.order.run(release);
    this.#state.background(
      released.catch((error: unknown) =>
        this.#state.log.warn(
          { ino, error: String(error) },
          'an unlinked file could not be released; its space comes back when the session ends',
        ),
      ),
    );
  }
}
