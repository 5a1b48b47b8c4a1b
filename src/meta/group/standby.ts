/**
 * The secondary's watch over its primary: when it may propose itself, and what it proposes. Pure.
 *
 * R1, R2: only the secondary that the catalog names and the last activation includes proposes itself. R5: only when
 * nothing has arrived for GRACE_MS, counted anew from process start; and before the proposal it has durably stopped to
 * acknowledge this epoch (`fenced`), so that the old primary cannot get another write or lease from it. R11: not while
 * its log may lack what it acknowledged before its machine lost power.
 */
import type { Group } from '../../catalog/types.ts';
import { invariant } from '../../errors.ts';
import type { Epoch, NodeId } from '../../ids.ts';
import { GRACE_MS } from './lease.ts';

/** What was proposed is proposed again after this, until the outcome is known. */
export const PROPOSE_AGAIN_MS = 500;

export class Standby {
  readonly #self: NodeId;
  readonly #group: Group;
  #heardMs: number;
  #nextMs = -Infinity;

  /** For one epoch of the group, in which `self` is the secondary. `heardMs`: now, or when the process started. */
  constructor(self: NodeId, group: Group, heardMs: number) {
    invariant(group.secondary === self, 'R1', 'only the secondary stands by');
    this.#self = self;
    this.#group = group;
    this.#heardMs = heardMs;
  }

  /** A message of the primary has arrived. */
  heard(nowMs: number): void {
    this.#heardMs = Math.max(this.#heardMs, nowMs);
  }

  /** This process did not run for a while: what has arrived meanwhile is still unread. */
  stalled(nowMs: number): void {
    this.heard(nowMs);
  }

  /** How long the primary has been silent. */
  silentMs(nowMs: number): number {
    return nowMs - this.#heardMs;
  }

  /**
   * The group to propose now, if any. `fenced`: this epoch is given up here already. `certain`: R11 holds.
   * The old primary becomes a learner (R8); `lastActivated` stays: the promotion is activated later, by R7.
   */
  wants(nowMs: number, fenced: boolean, certain: boolean): Group | undefined {
    if (!certain || !this.#group.lastActivated.members.includes(this.#self)) return undefined;
    // Once it has given the epoch up it cannot go back to following: it goes on until the outcome is known.
    if (!fenced && this.silentMs(nowMs) <= GRACE_MS) return undefined;
    if (nowMs < this.#nextMs) return undefined;
    this.#nextMs = nowMs + PROPOSE_AGAIN_MS;
    const { handedOver: _, ...rest } = this.#group;
    const { primary, learners } = rest;
    return {
      ...rest,
      epoch: (this.#group.epoch + 1) as Epoch,
      primary: this.#self,
      secondary: null,
      learners: [...learners, primary],
    };
  }
}
