import { describe, expect, it } from 'vitest';
import type { PackExtent, ScrubFindings } from './scrub-target.ts';
import {
  begin,
  decodeScrubState,
  DEFAULT_SCRUB_SETTINGS,
  encodeScrubState,
  finish,
  FIRST_SCRUB_STATE,
  nextPiece,
  nextWork,
  request,
  restMs,
  withFindings,
  withPass,
  type ScrubPass,
  type ScrubState,
} from './scrub-plan.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = 1_000 * DAY;
const EXTENTS: readonly PackExtent[] = [
  { pack: 4, endBytes: 500 },
  { pack: 2, endBytes: 1000 },
];
const extent = { extents: EXTENTS, rowCount: 10, rowCostBytes: 50 };
const findings = (part: Partial<ScrubFindings> = {}): ScrubFindings => ({
  ...{ costBytes: 0, blockCount: 0, blockBytes: 0, suspects: [], indexFault: undefined, gaps: [], rewrittenCount: 0 },
  ...part,
});
const passOf = (state: ScrubState): ScrubPass => {
  const pass = state.requested ?? state.scheduled;
  if (pass === null) throw new Error('no pass');
  return pass;
};

describe('the plan of scrubs', () => {
  it('begins with a pass over everything, spreads it over its time, and begins the next a period after it', () => {
    expect(nextWork(FIRST_SCRUB_STATE, NOW)).toEqual({ kind: 'begin', pass: 'scheduled' });
    let state = begin(FIRST_SCRUB_STATE, 'scheduled', extent, NOW);
    expect(passOf(state)).toMatchObject({ totalBytes: 2000, phase: 'index', lastPack: 4, lastPackBytes: 500 });
    expect(nextWork(state, NOW)).toMatchObject({ kind: 'pass' });
    state = withFindings(state, passOf(state), findings({ costBytes: 1000, blockCount: 3, blockBytes: 900 }), 2);
    // Half of it is done: the next piece has time until half of nine tenths of the period has passed.
    expect(nextWork(state, NOW + DAY)).toEqual({ kind: 'wait', untilMs: NOW + 0.45 * 14 * DAY });
    expect(nextWork(state, NOW + 7 * DAY)).toMatchObject({ kind: 'pass' });
    state = finish(state, passOf(state), new Set([2, 4]), NOW + 12 * DAY);
    expect(state.lastFull).toMatchObject({ blockCount: 3, blockBytes: 900, finishedAtMs: NOW + 12 * DAY });
    expect(nextWork(state, NOW + 12 * DAY)).toEqual({ kind: 'wait', untilMs: NOW + 14 * DAY });
    expect(nextWork(state, NOW + 14 * DAY)).toEqual({ kind: 'begin', pass: 'scheduled' });
  });

  it('is not put off for ever by a clock that was set back', () => {
    let state = begin(FIRST_SCRUB_STATE, 'scheduled', extent, NOW);
    state = finish(state, passOf(state), new Set(), NOW);
    expect(nextWork(state, NOW - 500 * DAY)).toEqual({ kind: 'wait', untilMs: NOW - 486 * DAY });
    const running = begin(FIRST_SCRUB_STATE, 'scheduled', extent, NOW);
    const done = withFindings(running, passOf(running), findings({ costBytes: 1000 }));
    const work = nextWork(done, NOW - 500 * DAY);
    expect(work.kind === 'wait' ? (work.untilMs ?? 0) : 0).toBeLessThan(NOW - 486 * DAY);
  });

  it('does what is asked for first, one after the other, and then goes on where it was', () => {
    let state = begin(FIRST_SCRUB_STATE, 'scheduled', extent, NOW);
    state = withPass(state, { ...passOf(state), phase: 'packs', pack: 2, offset: 300 });
    const first = request(state, 7);
    const again = request(first?.state ?? state, 7);
    expect(again?.id).toBe(first?.id);
    state = begin(again?.state ?? state, 'requested', extent, NOW);
    expect(passOf(state)).toMatchObject({ kind: 'requested', pool: 7, id: first?.id });
    expect(request(state, 7)?.id).toBe(first?.id);
    state = finish(state, passOf(state), new Set([2, 4]), NOW + 1);
    expect(passOf(state)).toMatchObject({ kind: 'scheduled', offset: 300 });
    expect(state.lastFull).toBeNull();
    // A pass over everything makes the scheduled one needless.
    state = begin(request(state, null)?.state ?? state, 'requested', extent, NOW + 2);
    state = finish(state, passOf(state), new Set([2, 4]), NOW + 3);
    expect(state).toMatchObject({ scheduled: null, requested: null, lastFull: { pool: null } });
    expect(state.finished.map((one) => one.pool)).toEqual([7, null]);
  });

  it('does nothing by itself when it is switched off', () => {
    const state = { ...FIRST_SCRUB_STATE, settings: { ...DEFAULT_SCRUB_SETTINGS, periodMs: 0 } };
    expect(nextWork(state, NOW)).toEqual({ kind: 'wait', untilMs: undefined });
    expect(nextWork(request(state, null)?.state ?? state, NOW)).toEqual({ kind: 'begin', pass: 'requested' });
  });

  it('goes through the packs in order, up to where they reached when it began', () => {
    const pass = passOf(begin(FIRST_SCRUB_STATE, 'scheduled', extent, NOW));
    const grown = [...EXTENTS.map((one) => ({ ...one, endBytes: 2000 })), { pack: 5, endBytes: 100 }];
    expect(nextPiece(pass, grown)).toEqual({ pack: 2, offset: 0, endBytes: 2000 });
    expect(nextPiece({ ...pass, pack: 2, offset: 2000 }, grown)).toEqual({ pack: 4, offset: 0, endBytes: 500 });
    expect(nextPiece({ ...pass, pack: 4, offset: 500 }, grown)).toBeUndefined();
    // Packs can go meanwhile.
    expect(nextPiece({ ...pass, pack: 2, offset: 10 }, [{ pack: 4, endBytes: 500 }])).toMatchObject({ pack: 4 });
  });

  it('takes notice of a gap once', () => {
    let state = begin(FIRST_SCRUB_STATE, 'scheduled', extent, NOW);
    const gap = findings({ gaps: [{ offset: 96, endOffset: 200 }] });
    state = withFindings(state, passOf(state), gap, 2);
    expect(passOf(state)).toMatchObject({ isMissingRecords: true, gapPacks: [2] });
    state = finish(state, passOf(state), new Set([2, 4]), NOW);
    state = begin(state, 'scheduled', extent, NOW);
    state = withFindings(state, passOf(state), gap, 2);
    expect(passOf(state)).toMatchObject({ isMissingRecords: false, gapPacks: [] });
    expect(finish(state, passOf(state), new Set([4]), NOW).knownGaps).toEqual([]);
  });

  it('rests longer while somebody waits for the disk', () => {
    const settings = { ...DEFAULT_SCRUB_SETTINGS, bytesPerSecond: 1000 };
    expect(restMs(settings, 500, false)).toBe(500);
    expect(restMs(settings, 500, true)).toBe(4000);
  });

  it('comes back from disk as it was, and begins anew when it cannot be read', () => {
    const state = begin(request(FIRST_SCRUB_STATE, 3)?.state ?? FIRST_SCRUB_STATE, 'scheduled', extent, NOW);
    const row = encodeScrubState(state);
    expect(decodeScrubState(row)).toEqual(state);
    expect(decodeScrubState(undefined)).toEqual(FIRST_SCRUB_STATE);
    expect(decodeScrubState(row.subarray(0, 40))).toEqual(FIRST_SCRUB_STATE);
    expect(decodeScrubState(Uint8Array.of(9, 1))).toEqual(FIRST_SCRUB_STATE);
  });
});
