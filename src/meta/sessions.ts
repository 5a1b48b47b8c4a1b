/**
 * A client's session as the group knows it: the results of requests whose answers the client may not have got yet.
 * All sessions are kept in memory (there are as many as mounts) and written as one row each at a flush. Liveness is
 * not here: that a session expired is a command.
 */
import { ByteReader, ByteWriter } from './bytes.ts';
import { readOutcome, writeOutcome, type Outcome } from './outcome.ts';

const SESSION_VERSION = 2;

/** Unacknowledged results of one session; a client has far fewer requests in flight (REQUESTS_PER_CONNECTION_MAX). */
export const SESSION_RESULTS_MAX_COUNT = 4096;

export interface Session {
  readonly openedNs: bigint;
  readonly leaseMs: number;
  /** For people: host and mount point. */
  readonly label: string;
  /** All requests below are answered and their results dropped. */
  ackedBelow: number;
  /** Invariant: every key >= ackedBelow; in the order of application, which is equal on every replica. */
  readonly results: Map<number, Outcome>;
  /** Of orphans up to this number it has told which it has open. Infinity: it is not asked. */
  orphansAnswered: number;
}

/** Forgets the results that the client has seen. */
export function acknowledge(session: Session, ackedBelow: number): void {
  if (ackedBelow <= session.ackedBelow) return;
  const { results } = session;
  if (ackedBelow - session.ackedBelow <= results.size) {
    for (let requestId = session.ackedBelow; requestId < ackedBelow; requestId++) results.delete(requestId);
  } else {
    for (const requestId of results.keys()) if (requestId < ackedBelow) results.delete(requestId);
  }
  session.ackedBelow = ackedBelow;
}

const writer = new ByteWriter();

export function encodeSession(session: Session): Uint8Array {
  writer.reset().u8(SESSION_VERSION).i64(session.openedNs).u53(session.leaseMs).text(session.label);
  writer.u53(session.ackedBelow);
  writer.u8(session.orphansAnswered === Infinity ? 0 : 1);
  if (session.orphansAnswered !== Infinity) writer.u53(session.orphansAnswered);
  writer.u32(session.results.size);
  for (const [requestId, outcome] of session.results) {
    writer.u53(requestId);
    writeOutcome(writer, outcome);
  }
  return writer.finish();
}

export function decodeSession(bytes: Uint8Array): Session {
  const r = new ByteReader(bytes, 'a session in the table');
  const version = r.version(SESSION_VERSION);
  const session: Session = {
    openedNs: r.i64(),
    leaseMs: r.u53(),
    label: r.text(),
    ackedBelow: r.u53(),
    orphansAnswered: version === 1 || !r.flag() ? Infinity : r.u53(),
    results: new Map(),
  };
  for (let left = r.u32(); left > 0; left--) {
    const requestId = r.u53();
    session.results.set(requestId, readOutcome(r));
  }
  r.end();
  return session;
}
