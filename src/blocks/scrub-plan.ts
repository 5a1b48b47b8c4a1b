/**
 * When a node scrubs, what comes next, and how fast. Pure: the Scrubber does the work and keeps this state on disk.
 *
 * A scheduled pass goes over everything once in `periodMs`, spread over nine tenths of it, so that a node that was off
 * for a while can still be in time. A requested pass (`tatami scrub --now`) comes first and goes as fast as the bound on
 * bytes per second lets it; a whole one counts as the scheduled one, too. The wall clock is used only to know how long
 * ago, across restarts, something was: a wrong one makes a pass early or late.
 */
import type { PackExtent, ScrubFindings } from './scrub-target.ts';

export interface ScrubSettings {
  /** Everything is checked once in this time; 0: only when asked for. */
  readonly periodMs: number;
  /** Most that a scrub reads in a second. */
  readonly bytesPerSecond: number;
}

const DAY_MS = 24 * 3600 * 1000;
export const SCRUB_PERIOD_MAX_MS = 3650 * DAY_MS;
export const SCRUB_RATE_MIN = 64 * 1024;
export const SCRUB_RATE_MAX = 16 * 1024 ** 3;

/** 14 days: bit rot is rare, and two copies that rot within two weeks rarer. 32 MiB/s: a fifth of one hard disk's streaming. */
export const DEFAULT_SCRUB_SETTINGS: ScrubSettings = { periodMs: 14 * DAY_MS, bytesPerSecond: 32 * 1024 ** 2 };

/** Part of the period over which a scheduled pass is spread. */
const SPREAD = 0.9;
/** While somebody waits for the node's disk, the scrub takes this part of its bytes per second. */
const BUSY_SHARE = 1 / 8;
/** Longest rest between two pieces: after it the plan is looked at anew. */
export const REST_MAX_MS = 60_000;
const FINISHED_MAX = 16;
const QUEUE_MAX = 64;
const GAPS_MAX = 4096;

/**
 * - `index`: the files of the index against their checksums
 * - `packs`: records against the index, live bytes against their hashes
 * - `rows`: the index against the records
 * - `peers`: only if records were lost without a trace: what other nodes have that should be here, too
 */
export type ScrubPhase = 'index' | 'packs' | 'rows' | 'peers';

export interface ScrubPass {
  readonly id: number;
  readonly kind: 'scheduled' | 'requested';
  /** Number of the pool; null: all. */
  readonly pool: number | null;
  readonly startedAtMs: number;
  readonly phase: ScrubPhase;
  /** Where it ends: what is written meanwhile is looked at by the next one. */
  readonly lastPack: number;
  readonly lastPackBytes: number;
  /** Where it is. */
  readonly pack: number;
  readonly offset: number;
  readonly row: string | null;
  /** Packs in which records were lost. */
  readonly gapPacks: readonly number[];
  /** A gap was found that no pass has seen before. */
  readonly isMissingRecords: boolean;
  readonly totalBytes: number;
  readonly doneBytes: number;
  readonly blockCount: number;
  readonly blockBytes: number;
  readonly foundCount: number;
  readonly healedCount: number;
  readonly indexFaultCount: number;
  readonly rewrittenCount: number;
}

export interface ScrubSummary {
  readonly id: number;
  readonly kind: 'scheduled' | 'requested';
  readonly pool: number | null;
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
  readonly blockCount: number;
  readonly blockBytes: number;
  readonly foundCount: number;
  readonly healedCount: number;
  readonly indexFaultCount: number;
  readonly rewrittenCount: number;
}

export interface ScrubState {
  readonly nextId: number;
  readonly settings: ScrubSettings;
  readonly scheduled: ScrubPass | null;
  readonly requested: ScrubPass | null;
  readonly queue: readonly { readonly id: number; readonly pool: number | null }[];
  /** Newest last. */
  readonly finished: readonly ScrubSummary[];
  /** The newest pass over everything. */
  readonly lastFull: ScrubSummary | null;
  /** Gaps ("pack:offset") whose loss has been seen to. */
  readonly knownGaps: readonly string[];
}

export const FIRST_SCRUB_STATE: ScrubState = {
  nextId: 1,
  settings: DEFAULT_SCRUB_SETTINGS,
  scheduled: null,
  requested: null,
  queue: [],
  finished: [],
  lastFull: null,
  knownGaps: [],
};

export type ScrubWork =
  | { readonly kind: 'pass'; readonly pass: ScrubPass }
  | { readonly kind: 'begin'; readonly pass: 'scheduled' | 'requested' }
  /** Nothing before that; undefined: until something is asked for. */
  | { readonly kind: 'wait'; readonly untilMs: number | undefined };

export function nextWork(state: ScrubState, nowMs: number): ScrubWork {
  if (state.requested !== null) return { kind: 'pass', pass: state.requested };
  if (state.queue.length > 0) return { kind: 'begin', pass: 'requested' };
  if (state.settings.periodMs === 0) return { kind: 'wait', untilMs: undefined };
  if (state.scheduled !== null) {
    const turnMs = turnOf(state.scheduled, state.settings, nowMs);
    return turnMs > nowMs ? { kind: 'wait', untilMs: turnMs } : { kind: 'pass', pass: state.scheduled };
  }
  const dueMs = nextDueMs(state, nowMs);
  return dueMs > nowMs ? { kind: 'wait', untilMs: dueMs } : { kind: 'begin', pass: 'scheduled' };
}

/** When the next piece of a scheduled pass is due, for the pass to be spread over its time. */
function turnOf(pass: ScrubPass, { periodMs }: ScrubSettings, nowMs: number): number {
  const spreadMs = SPREAD * periodMs;
  const part = Math.min(1, pass.doneBytes / Math.max(1, pass.totalBytes));
  // A clock that was set back must not put it off for longer than the pass may take.
  return Math.min(pass.startedAtMs, nowMs) + part * spreadMs;
}

/** When the next scheduled pass begins. */
export function nextDueMs({ lastFull, settings }: ScrubState, nowMs: number): number {
  if (lastFull === null) return nowMs;
  // A clock that was set back must not put it off for ever.
  return Math.min(lastFull.startedAtMs, nowMs) + settings.periodMs;
}

/** Puts a request in line, unless an equal one waits; its pass has the number `id`. Undefined: too many wait. */
export function request(state: ScrubState, pool: number | null): { state: ScrubState; id: number } | undefined {
  const waiting = state.queue.find((one) => one.pool === pool);
  if (waiting !== undefined) return { state, id: waiting.id };
  const { requested } = state;
  if (requested !== null && requested.pool === pool) return { state, id: requested.id };
  if (state.queue.length >= QUEUE_MAX) return undefined;
  const id = state.nextId;
  return { state: { ...state, nextId: id + 1, queue: [...state.queue, { id, pool }] }, id };
}

export interface StoreExtent {
  readonly extents: readonly PackExtent[];
  readonly rowCount: number;
  readonly rowCostBytes: number;
}

export function begin(
  state: ScrubState,
  kind: 'scheduled' | 'requested',
  { extents, rowCount, rowCostBytes }: StoreExtent,
  nowMs: number,
): ScrubState {
  const next = kind === 'requested' ? state.queue[0] : undefined;
  const last = extents.reduce((a, b) => (b.pack > a.pack ? b : a), { pack: 0, endBytes: 0 });
  const pass: ScrubPass = {
    id: next?.id ?? state.nextId,
    kind,
    pool: next?.pool ?? null,
    startedAtMs: nowMs,
    phase: 'index',
    lastPack: last.pack,
    lastPackBytes: last.endBytes,
    pack: 0,
    offset: 0,
    row: null,
    gapPacks: [],
    isMissingRecords: false,
    totalBytes: extents.reduce((sum, { endBytes }) => sum + endBytes, 0) + rowCount * rowCostBytes,
    doneBytes: 0,
    blockCount: 0,
    blockBytes: 0,
    foundCount: 0,
    healedCount: 0,
    indexFaultCount: 0,
    rewrittenCount: 0,
  };
  if (kind === 'scheduled') return { ...state, nextId: state.nextId + 1, scheduled: pass };
  return { ...state, queue: state.queue.slice(1), requested: pass };
}

/** The piece of the packs that comes next; undefined: that was all of them. */
export function nextPiece(
  { pack, offset, lastPack, lastPackBytes }: ScrubPass,
  extents: readonly PackExtent[],
): { readonly pack: number; readonly offset: number; readonly endBytes: number } | undefined {
  let found: { pack: number; offset: number; endBytes: number } | undefined;
  for (const extent of extents) {
    const endBytes = extent.pack === lastPack ? Math.min(extent.endBytes, lastPackBytes) : extent.endBytes;
    const from = extent.pack === pack ? offset : 0;
    if (extent.pack < pack || extent.pack > lastPack || from >= endBytes) continue;
    if (found === undefined || extent.pack < found.pack) found = { pack: extent.pack, offset: from, endBytes };
  }
  return found;
}

/** The pass with what a piece of work found; suspects are counted as they are healed. */
export function withFindings(state: ScrubState, pass: ScrubPass, findings: ScrubFindings, pack?: number): ScrubState {
  const fresh =
    pack === undefined
      ? []
      : findings.gaps.map(({ offset }) => `${pack}:${offset}`).filter((gap) => !state.knownGaps.includes(gap));
  const isNew = fresh.length > 0;
  const next: ScrubPass = {
    ...pass,
    doneBytes: pass.doneBytes + findings.costBytes,
    blockCount: pass.blockCount + findings.blockCount,
    blockBytes: pass.blockBytes + findings.blockBytes,
    rewrittenCount: pass.rewrittenCount + findings.rewrittenCount,
    indexFaultCount: pass.indexFaultCount + (findings.indexFault === undefined ? 0 : 1),
    isMissingRecords: pass.isMissingRecords || isNew,
    gapPacks: isNew && pack !== undefined ? [...new Set([...pass.gapPacks, pack])] : pass.gapPacks,
  };
  return withPass({ ...state, knownGaps: [...state.knownGaps, ...fresh].slice(-GAPS_MAX) }, next);
}

/** Puts a changed pass in the place of the one of that number. */
export function withPass(state: ScrubState, pass: ScrubPass): ScrubState {
  return pass.kind === 'scheduled' ? { ...state, scheduled: pass } : { ...state, requested: pass };
}

export function currentOf(state: ScrubState, pass: ScrubPass): ScrubPass {
  const now = pass.kind === 'scheduled' ? state.scheduled : state.requested;
  return now?.id === pass.id ? now : pass;
}

/** Ends the pass. `packs`: those that there are, as gaps of others need not be remembered. */
export function finish(state: ScrubState, pass: ScrubPass, packs: ReadonlySet<number>, nowMs: number): ScrubState {
  const { id, kind, pool, startedAtMs, blockCount, blockBytes, foundCount, healedCount } = pass;
  const { indexFaultCount, rewrittenCount } = pass;
  const summary: ScrubSummary = {
    ...{ id, kind, pool, startedAtMs, finishedAtMs: nowMs, blockCount, blockBytes },
    ...{ foundCount, healedCount, indexFaultCount, rewrittenCount },
  };
  return {
    ...state,
    // A whole pass that was asked for makes one under way needless.
    scheduled: kind === 'scheduled' || pool === null ? null : state.scheduled,
    requested: kind === 'requested' ? null : state.requested,
    finished: [...state.finished, summary].slice(-FINISHED_MAX),
    lastFull: pool === null ? summary : state.lastFull,
    knownGaps: state.knownGaps.filter((gap) => packs.has(Number(gap.split(':')[0]))),
  };
}

/** How long to rest after a piece that cost so much. */
export function restMs({ bytesPerSecond }: ScrubSettings, costBytes: number, isBusy: boolean): number {
  return (costBytes * 1000) / (bytesPerSecond * (isBusy ? BUSY_SHARE : 1));
}

// On disk

const STATE_VERSION = 1;

export function encodeScrubState(state: ScrubState): Uint8Array {
  return Buffer.concat([Uint8Array.of(STATE_VERSION), Buffer.from(JSON.stringify(state))]);
}

/** What a row holds; the first state if there is none, or none that can be read: scrubbing then begins anew. */
export function decodeScrubState(row: Uint8Array | undefined): ScrubState {
  if (row === undefined || row[0] !== STATE_VERSION) return FIRST_SCRUB_STATE;
  try {
    const read = JSON.parse(Buffer.from(row.subarray(1)).toString('utf8')) as Partial<ScrubState>;
    const settings = { ...DEFAULT_SCRUB_SETTINGS, ...read.settings };
    const isUsable =
      Number.isSafeInteger(read.nextId) &&
      [read.queue, read.finished, read.knownGaps].every((list) => Array.isArray(list)) &&
      Number.isFinite(settings.periodMs) &&
      settings.bytesPerSecond >= SCRUB_RATE_MIN;
    return isUsable ? { ...FIRST_SCRUB_STATE, ...read, settings } : FIRST_SCRUB_STATE;
  } catch {
    return FIRST_SCRUB_STATE;
  }
}
