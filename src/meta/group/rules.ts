/**
 * Clauses of the rules R1-R11 that a test can switch off, one at a time, to see whether the simulator's checkers notice
 * (`npm run sim -- --without NAME`). Nothing else may: a program that serves people has them all.
 */
export interface GroupRules {
  /** R5: before a secondary proposes itself it stops, durably, to acknowledge that epoch. */
  readonly fencing: boolean;
  /** R5: what was given up is not acknowledged: neither what comes later nor what was under way. */
  readonly refusalWhenFenced: boolean;
  /** R5: the lease counts from when a push was sent, not from when its answer came. */
  readonly leaseFromSending: boolean;
  /** R5: without a lease nothing is answered. */
  readonly lease: boolean;
  /** R5: a new primary waits until the lease of the one before it has run out. */
  readonly takeoverWait: boolean;
  /** R2: from before a secondary is proposed until the outcome is known, commits need it too. */
  readonly jointAcknowledgement: boolean;
  /** R5: a primary that hands its group over has stopped answering before it asks for that. */
  readonly handOverStops: boolean;
  /** R6: messages of an older epoch, and of whoever was primary then, are refused. */
  readonly followerEpoch: boolean;
  /** R7: everything in the log is in both logs before a primary is activated. */
  readonly reconciliation: boolean;
  /** R11: who lost what was only in memory does not propose itself. */
  readonly certainty: boolean;
  /** Every epoch is used by one run of one process. */
  readonly ownEpoch: boolean;
}

export const ALL_RULES: GroupRules = {
  fencing: true,
  refusalWhenFenced: true,
  leaseFromSending: true,
  lease: true,
  takeoverWait: true,
  handOverStops: true,
  jointAcknowledgement: true,
  followerEpoch: true,
  reconciliation: true,
  certainty: true,
  ownEpoch: true,
};
