/**
 * An orderly end of being primary: whether and when to hand the group to its secondary. Pure.
 *
 * First it stops answering; once the secondary has logged all there is, it asks the catalog to exchange the two. Both logs
 * are equal then, so the new primary is activated at once (R7), and whichever of the two dies, the other has everything.
 * R5: as the old one had stopped before it asked, the new one need not wait until a lease has run out (`handedOver`); and as
 * the old one had the right to answer itself, no older lease runs either. Once asked for, nothing is answered until the
 * outcome is known; and the secondary hears no more, so that it takes over by itself should the outcome never come.
 */
import type { Group } from '../../catalog/types.ts';
import type { Epoch, NodeId } from '../../ids.ts';

/** What the primary knows when it looks whether to hand over. */
export interface HandOverView {
  readonly group: Group;
  /** Activated, reconciled, beyond every older lease, and no other change of the members is under way. */
  readonly mayHandOver: boolean;
  /** The secondary follows, is not going itself, and is in sync to within a moment of writes. */
  readonly secondaryFollows: boolean;
  /** Its log has all of this node's, which is itself written. */
  readonly secondaryHasAll: boolean;
  /** This node is being drained. */
  readonly draining: boolean;
}

export class HandOver {
  readonly #stopsServing: boolean;
  #leaving = false;
  /** Invariant: while this is set nothing is answered. `asked`: the proposal may be on its way and cannot be taken back. */
  #underWay: { asked: boolean } | undefined;

  /** `stopsServing` false: a mutation of the rules, for tests. */
  constructor(stopsServing: boolean) {
    this.#stopsServing = stopsServing;
  }

  /** The process is about to end. */
  leave(): void {
    this.#leaving = true;
  }

  get leaving(): boolean {
    return this.#leaving;
  }

  /** Nothing new is ordered or answered. */
  get stopsServing(): boolean {
    return this.#underWay !== undefined && this.#stopsServing;
  }

  /** The members hear nothing more. */
  get asked(): boolean {
    return this.#underWay?.asked === true;
  }

  /** Another epoch has begun: whatever was asked for is decided. */
  epochChanged(): void {
    this.#underWay = undefined;
  }

  /** The group to ask the catalog for, if it is time. */
  wants(view: HandOverView): Group | undefined {
    const { secondary } = view.group;
    if (this.#underWay?.asked !== true) {
      const wished = this.#leaving || view.draining;
      if (!wished || secondary === null || !view.mayHandOver || !view.secondaryFollows) {
        this.#underWay = undefined;
        return undefined;
      }
      this.#underWay ??= { asked: false };
      if (!view.secondaryHasAll) return undefined;
      this.#underWay.asked = true;
    }
    return secondary === null ? undefined : handedOver(view.group, secondary);
  }
}

/** R2: the secondary is in sync; the promotion is activated later, by R7. */
function handedOver(group: Group, to: NodeId): Group {
  return {
    ...group,
    epoch: (group.epoch + 1) as Epoch,
    primary: to,
    secondary: group.primary,
    handedOver: true,
  };
}
