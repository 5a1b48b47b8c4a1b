/**
 * The metadata state machine: command in, outcome out, equal on every replica. A command either happens as a whole or
 * changes nothing but its recorded outcome. Pure: time is in the command, inode numbers come from the table's counter,
 * rows come from the driver (MetaStore).
 */
import type { RootOwner } from '../catalog/types.ts';
import { ROOT_INO, type PoolId, type SessionId } from '../ids.ts';
import type { ClientCommand, Command } from './commands.ts';
import { EMPTY_BYTES, type Counters, type Inode } from './codec.ts';
import { clone, commit, compact, punch } from './data.ts';
import { link, rmdir, unlink } from './link.ts';
import { lock, releaseAllLocks } from './lock-rows.ts';
import { make, makeNameless } from './make.ts';
import { keepOrphans, reclaim, releaseAllOrphans, releaseOrphan } from './orphans.ts';
import { Refusal, type Outcome } from './outcome.ts';
import { rename } from './rename.ts';
import { acknowledge, SESSION_RESULTS_MAX_COUNT, type Session } from './sessions.ts';
import { accessed, setattr } from './setattr.ts';
import type { TableProgram, Transaction } from './transaction.ts';
import type { Mutation, MutationResult } from './types.ts';
import { removexattr, setxattr } from './xattrs.ts';

/** The sessions, all in memory; `changed` collects what the next flush has to write. */
export interface SessionTable {
  readonly open: Map<SessionId, Session>;
  readonly changed: Set<SessionId>;
}

const DONE: Outcome = { ok: true, result: {} };
/** Files of the root directory go to the first pool; the cluster's `init` makes it. */
const ROOT_POOL = 1 as PoolId;

/** Every table starts so, before the first command. */
export function initialCounters(): Counters {
  return {
    nextIno: ROOT_INO + 1,
    inodeCount: 1,
    storedBytes: 0,
    deadCount: 0,
    gcGeneration: 0,
    orphanNumber: 0,
    orphansAnswered: 0,
  };
}

/** The root directory of a new table; the first session gives it its times. */
export function initialRoot({ uid, gid }: RootOwner = { uid: 0, gid: 0 }): Inode {
  return {
    ino: ROOT_INO,
    type: 'directory',
    mode: 0o755,
    uid,
    gid,
    nlink: 2,
    sizeBytes: 0,
    storedBytes: 0,
    atimeNs: 0n,
    mtimeNs: 0n,
    ctimeNs: 0n,
    rdev: 0,
    version: 1,
    generation: 1,
    pool: ROOT_POOL,
    parent: 0,
    dataIno: ROOT_INO,
    extentCount: 0,
    blockExtentCount: 0,
    extentEnd: 0,
    xattrCount: 0,
    hasAcl: false,
    hasDefaultAcl: false,
    target: EMPTY_BYTES,
  };
}

/**
 * Applies one command within `tx`, which is sealed when it returns. Sessions are changed only in the last step, so
 * that a flush meanwhile sees none of it.
 */
export function* applyCommand(tx: Transaction, sessions: SessionTable, command: Command): TableProgram<Outcome> {
  switch (command.kind) {
    case 'client':
      return yield* applyClient(tx, sessions, command);
    case 'openSession': {
      if (sessions.open.has(command.session)) return DONE;
      dateRoot(tx, command.nowNs);
      const { nowNs: openedNs, leaseMs, label } = command;
      // It cannot have opened what had no name before.
      const orphansAnswered = command.answers === true ? tx.counters.orphanNumber : Infinity;
      const session = { openedNs, leaseMs, label, ackedBelow: 0, results: new Map(), orphansAnswered };
      sessions.open.set(command.session, session);
      sessions.changed.add(command.session);
      return DONE;
    }
    case 'expireSession':
      if (!sessions.open.has(command.session)) return DONE;
      yield* releaseAllOrphans(tx, command.session);
      yield* releaseAllLocks(tx, command.session);
      tx.seal();
      sessions.open.delete(command.session);
      sessions.changed.add(command.session);
      return DONE;
    case 'gcBarrier':
      tx.counters.gcGeneration = Math.max(tx.counters.gcGeneration, command.generation);
      return DONE;
    case 'reclaim':
      yield* reclaim(tx, sessions.open.values(), command.maxRows);
      return DONE;
    case 'noop':
      return DONE;
  }
}

/** Whether other sessions can be asked what they have open. */
function hasOthers({ open }: SessionTable, session: SessionId): boolean {
  for (const [id, { orphansAnswered }] of open) if (id !== session && orphansAnswered !== Infinity) return true;
  return false;
}

function* applyClient(tx: Transaction, sessions: SessionTable, command: ClientCommand): TableProgram<Outcome> {
  const { session: id, requestId } = command;
  const session = sessions.open.get(id);
  if (session === undefined) return { ok: false, code: 'ERR_SESSION_EXPIRED' };
  if (requestId < session.ackedBelow) return { ok: false, code: 'ERR_STATE' };
  const known = session.results.get(requestId);
  if (known !== undefined) return known;
  if (session.results.size >= SESSION_RESULTS_MAX_COUNT && command.ackedBelow <= session.ackedBelow) {
    return { ok: false, code: 'ERR_OVERLOADED' };
  }
  let outcome: Outcome;
  try {
    tx.nowNs = command.nowNs;
    tx.hasOtherSessions = hasOthers(sessions, id);
    const result = yield* applyMutation(tx, command.mutation, id);
    tx.seal();
    outcome = { ok: true, result };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    tx.discard();
    outcome = { ok: false, code: error.code };
  }
  acknowledge(session, Math.min(command.ackedBelow, requestId));
  session.results.set(requestId, outcome);
  if (command.mutation.op === 'keepOrphans') {
    session.orphansAnswered = Math.max(
      session.orphansAnswered,
      Math.min(command.mutation.upToNumber, tx.counters.orphanNumber),
    );
  }
  sessions.changed.add(id);
  return outcome;
}

function* applyMutation(tx: Transaction, m: Mutation, session: SessionId): TableProgram<MutationResult> {
  switch (m.op) {
    case 'make':
      return make(tx, m);
    case 'makeNameless':
      return makeNameless(tx, m, session);
    case 'link':
      return link(tx, m, session);
    case 'unlink':
      return yield* unlink(tx, m, session);
    case 'rmdir':
      return rmdir(tx, m, session);
    case 'rename':
      return yield* rename(tx, m, session);
    case 'setattr':
      return yield* setattr(tx, m);
    case 'accessed':
      return accessed(tx, m);
    case 'commit':
      return yield* commit(tx, m);
    case 'clone':
      return yield* clone(tx, m);
    case 'compact':
      return yield* compact(tx, m);
    case 'punch':
      return yield* punch(tx, m);
    case 'setxattr':
      return setxattr(tx, m);
    case 'removexattr':
      return removexattr(tx, m);
    case 'releaseOrphan':
      return releaseOrphan(tx, m.ino, session);
    case 'keepOrphans':
      return keepOrphans(tx, m, session);
    case 'lock':
      return lock(tx, m.ino, { ...m.lock, session });
  }
}

function dateRoot(tx: Transaction, nowNs: bigint): void {
  const root = tx.inode(ROOT_INO);
  if (root === undefined || root.ctimeNs !== 0n) return;
  root.atimeNs = root.mtimeNs = root.ctimeNs = nowNs;
  tx.change(root);
  tx.seal();
}
