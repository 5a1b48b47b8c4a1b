/** Messages about the catalog: their names, shapes and checks. docs/protocol.md, "The catalog". */
import { z } from 'zod';
import { FormatError } from '../errors.ts';
import type { Epoch } from '../ids.ts';
import type { Accept, AcceptReply, Accepted, Prepare, PrepareReply } from './paxos.ts';
import { parseCatalog, parseChange } from './schema.ts';
import type { Catalog, CatalogChange } from './types.ts';
import { ballotFromWire, ballotToWire } from './votes.ts';
import type { CatalogValue } from './votes.ts';

export const catalogMethods = {
  get: 'catalog.get',
  propose: 'catalog.propose',
  finish: 'catalog.finish',
  prepare: 'catalog.prepare',
  accept: 'catalog.accept',
  inquire: 'catalog.inquire',
  announce: 'catalog.announce',
} as const;

/** A proposal's name: drawn once by whoever wants the change, kept through all its retries. */
export const PROPOSAL_ID = /^[0-9a-f]{16}$/;

const epoch = z.number().int().positive().max(Number.MAX_SAFE_INTEGER);
const ballot = z.tuple([epoch, z.string().min(1).max(64)]);
const proposal = z.string().regex(PROPOSAL_ID);
const prepareSchema = z.object({ epoch, ballot });
const acceptSchema = z.object({ epoch, ballot, proposal, catalog: z.unknown() });
const proposeSchema = z.object({ expected: epoch, change: z.unknown(), proposal });
const acceptedSchema = z.object({ ballot, proposal, catalog: z.unknown() });
const replySchema = z.discriminatedUnion('status', [
  z.object({ status: z.literal('promised'), accepted: acceptedSchema.nullable() }),
  z.object({ status: z.literal('accepted') }),
  z.object({ status: z.literal('outbid'), promised: ballot }),
  z.object({ status: z.literal('ahead'), catalog: z.unknown() }),
  z.object({ status: z.literal('behind') }),
  z.object({ status: z.literal('noVoter') }),
]);
const inquirySchema = z.object({
  epoch: z.number().int().nonnegative(),
  acceptedEpoch: z.number().int().nonnegative(),
  fit: z.boolean(),
  reason: z.string().max(1_000),
});

function parse<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw new FormatError(`${what}: not a message of this protocol`);
  return parsed.data;
}

export interface Proposal {
  readonly expected: Epoch;
  readonly change: CatalogChange;
  readonly proposal: string;
}

export function parseProposal(header: unknown): Proposal {
  const { expected, change, proposal: id } = parse(proposeSchema, header, catalogMethods.propose);
  return { expected: expected as Epoch, change: parseChange(change), proposal: id };
}

export function prepareToWire(message: Prepare) {
  return { epoch: message.epoch, ballot: ballotToWire(message.ballot) };
}

export function parsePrepare(header: unknown): Prepare {
  const message = parse(prepareSchema, header, catalogMethods.prepare);
  return { epoch: message.epoch as Epoch, ballot: ballotFromWire(message.ballot) };
}

export function acceptToWire(message: Accept<CatalogValue>) {
  const { proposal: id, catalog } = message.value;
  return { epoch: message.epoch, ballot: ballotToWire(message.ballot), proposal: id, catalog };
}

export function parseAccept(header: unknown): Accept<CatalogValue> {
  const message = parse(acceptSchema, header, catalogMethods.accept);
  const catalog = catalogOf(message.catalog, message.epoch);
  const value = { proposal: message.proposal, catalog };
  return { epoch: message.epoch as Epoch, ballot: ballotFromWire(message.ballot), value };
}

/** A reply of an acceptor, with our own catalog where it is ahead of the asker. */
export function replyToWire(reply: PrepareReply<CatalogValue> | AcceptReply, own: Catalog) {
  switch (reply.status) {
    case 'promised': {
      const { accepted } = reply;
      const wire = accepted && {
        ballot: ballotToWire(accepted.ballot),
        proposal: accepted.value.proposal,
        catalog: accepted.value.catalog,
      };
      return { status: reply.status, accepted: wire };
    }
    case 'outbid':
      return { status: reply.status, promised: ballotToWire(reply.promised) };
    case 'ahead':
      return { status: reply.status, catalog: own };
    default:
      return { status: reply.status };
  }
}

export interface WireReply {
  readonly reply: PrepareReply<CatalogValue> | AcceptReply;
  /** A chosen catalog at least as new as the epoch asked about, with status `ahead`. */
  readonly newer?: Catalog;
}

export function parseReply(header: unknown, asked: Epoch): WireReply {
  const reply = parse(replySchema, header, 'reply of a voter');
  switch (reply.status) {
    case 'promised': {
      if (reply.accepted === null) return { reply: { status: 'promised', accepted: null } };
      const { proposal: id, catalog } = reply.accepted;
      const accepted: Accepted<CatalogValue> = {
        epoch: asked,
        ballot: ballotFromWire(reply.accepted.ballot),
        value: { proposal: id, catalog: catalogOf(catalog, asked) },
      };
      return { reply: { status: 'promised', accepted } };
    }
    case 'outbid':
      return { reply: { status: 'outbid', promised: ballotFromWire(reply.promised) } };
    case 'ahead':
      return { reply: { status: 'ahead' }, newer: parseCatalog(reply.catalog) };
    default:
      return { reply: { status: reply.status } };
  }
}

/** How a voter is: for reads that must be certain, for upkeep and for `status`. */
export interface VoterInquiry {
  readonly epoch: number;
  /** Of what it has accepted and does not know to be chosen; 0: nothing. */
  readonly acceptedEpoch: number;
  /** Whether it votes when the catalog asks it to. */
  readonly fit: boolean;
  /** Why not; empty if it does. */
  readonly reason: string;
}

export function parseInquiry(header: unknown): VoterInquiry {
  return parse(inquirySchema, header, catalogMethods.inquire);
}

function catalogOf(value: unknown, wanted: number): Catalog {
  const catalog = parseCatalog(value);
  if (catalog.epoch !== wanted) throw new FormatError(`a catalog of epoch ${catalog.epoch} for epoch ${wanted}`);
  return catalog;
}
