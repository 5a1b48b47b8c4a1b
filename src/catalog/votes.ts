/**
 * What a voter must never forget, as a file of its own: `votes.json` in the node's data directory (docs/formats.md).
 *
 * R11: it belongs to one store. Missing, damaged or of another store, it is never made anew: what was promised and
 * forgotten could be promised otherwise, and two values be chosen for one epoch. Such a node never votes again.
 */
import { z } from 'zod';
import { FormatError } from '../errors.ts';
import type { Epoch, NodeId } from '../ids.ts';
import { xxh64 } from '../xxhash.ts';
import { NO_VOTES, compareBallots } from './paxos.ts';
import type { AcceptorState, Ballot, Value } from './paxos.ts';
import { parseCatalog } from './schema.ts';
import type { Catalog } from './types.ts';

const VOTES_FORMAT_VERSION = 1;

/** What the catalog's Paxos decides on: the whole next document, so that voters of two versions cannot differ in it. */
export interface CatalogValue extends Value {
  readonly catalog: Catalog;
}

export type VoterState = AcceptorState<CatalogValue>;

export type Votes =
  | { readonly fit: true; readonly state: VoterState }
  /** `reason` in words, for the log and for `status`. */
  | { readonly fit: false; readonly reason: string };

/** Where a node keeps its votes. */
export interface VoteStore {
  /** As found at the start. */
  readonly votes: Votes;
  /** Atomic, and durable when it resolves. After a rejection the old or the new state may be on disk. */
  save(state: VoterState): Promise<void>;
}

const ballot = z.tuple([z.number().int().positive().max(Number.MAX_SAFE_INTEGER), z.string().min(1).max(64)]);
const fileSchema = z.strictObject({
  formatVersion: z.literal(VOTES_FORMAT_VERSION),
  checksum: z.string(),
  storeId: z.string(),
  promised: ballot.nullable(),
  accepted: z
    .strictObject({ epoch: z.number().int().positive(), ballot, proposal: z.string(), catalog: z.unknown() })
    .nullable(),
});

type WireBallot = readonly [number, string];

export function ballotToWire({ round, node }: Ballot): WireBallot {
  return [round, node];
}

export function ballotFromWire([round, node]: WireBallot): Ballot {
  return { round, node: node as NodeId };
}

export function encodeVotes(storeId: string, state: VoterState): Uint8Array {
  const { promised, accepted } = state;
  const content = {
    storeId,
    promised: promised && ballotToWire(promised),
    accepted: accepted && {
      epoch: accepted.epoch,
      ballot: ballotToWire(accepted.ballot),
      proposal: accepted.value.proposal,
      catalog: accepted.value.catalog,
    },
  };
  const file = { formatVersion: VOTES_FORMAT_VERSION, checksum: checksumOf(content), ...content };
  return new TextEncoder().encode(`${JSON.stringify(file, undefined, 1)}\n`);
}

/** `bytes` undefined: there is no such file. Throws FormatError only for a newer format. */
export function decodeVotes(bytes: Uint8Array | undefined, storeId: string): Votes {
  const lost = (reason: string): Votes => ({ fit: false, reason });
  if (bytes === undefined) return lost('its votes.json is missing');
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return lost('its votes.json is damaged');
  }
  const version = (value as { formatVersion?: unknown } | null)?.formatVersion;
  if (typeof version === 'number' && version > VOTES_FORMAT_VERSION) {
    throw new FormatError(`votes.json has format ${version}; this program knows ${VOTES_FORMAT_VERSION}`, {
      remedy: 'Run a newer tatamifs on this machine.',
    });
  }
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) return lost('its votes.json is damaged');
  const { checksum, formatVersion: _, ...content } = parsed.data;
  if (checksum !== checksumOf(content)) return lost('its votes.json is damaged');
  if (content.storeId !== storeId) return lost(`its votes.json is of another store (${content.storeId.slice(0, 16)})`);
  const promised = content.promised && ballotFromWire(content.promised);
  if (content.accepted === null) return { fit: true, state: { promised, accepted: null } };
  const { epoch, proposal } = content.accepted;
  const accepted = {
    epoch: epoch as Epoch,
    ballot: ballotFromWire(content.accepted.ballot),
    value: { proposal, catalog: parseCatalog(content.accepted.catalog) },
  };
  if (promised === null || compareBallots(accepted.ballot, promised) > 0) return lost('its votes.json is damaged');
  return { fit: true, state: { promised, accepted } };
}

/** The votes of a store that has never voted. */
export function firstVotes(storeId: string): Uint8Array {
  return encodeVotes(storeId, NO_VOTES);
}

function checksumOf(content: object): string {
  return xxh64(new TextEncoder().encode(JSON.stringify(content)))
    .toString(16)
    .padStart(16, '0');
}
