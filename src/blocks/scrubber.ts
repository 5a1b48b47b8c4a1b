/**
 * Runs a node's scrub: takes the next piece of work of the plan (scrub-plan.ts), has it done, heals what it found, keeps
 * the position on disk, rests. Never two pieces at once.
 */
import type { Clock, Kv, Timer } from '../env.ts';
import { OverloadedError } from '../errors.ts';
import type { BlockId, PoolId } from '../ids.ts';
import { KiB, MiB } from '../limits.ts';
import type { BlockLog } from './block-service.ts';
import type { DamageHealer } from './damage-healer.ts';
import { HEAD_COST_BYTES } from './pack-scrub.ts';
import {
  begin,
  currentOf,
  decodeScrubState,
  encodeScrubState,
  finish,
  nextDueMs,
  nextPiece,
  nextWork,
  request,
  REST_MAX_MS,
  restMs,
  withFindings,
  withPass,
  type ScrubPass,
  type ScrubSettings,
  type ScrubState,
  type ScrubSummary,
} from './scrub-plan.ts';
import type { ScrubFindings, ScrubTarget } from './scrub-target.ts';

const STATE_KEY = Uint8Array.of(0x73); // 's'
/** Read in one go: long enough for a disk that seeks, short enough for those that wait behind it. */
const PIECE_BYTES = 4 * MiB;
const ROWS_AT_ONCE = 64;
/** What a page of another node's list counts as. */
const LIST_COST_BYTES = 256 * KiB;
/** A machine that has just started has other things to do. What was asked for goes on at once. */
const START_DELAY_MS = 5 * 60_000;
/** After a failure (the disk, an index that cannot be rebuilt). */
const FAILURE_REST_MS = 30_000;
/** A piece that fails so often is passed over. */
const FAILURES_MAX = 3;

export interface ScrubberOptions {
  readonly target: ScrubTarget;
  readonly healer: Pick<DamageHealer, 'heal'>;
  /** For the position and settings (key 's'). */
  readonly kv: Kv;
  readonly clock: Clock;
  readonly log: BlockLog;
  /** Whether somebody waits for this node's disk now. */
  readonly isBusy: () => boolean;
  /** Pages of what other nodes hold and this one should and does not. */
  readonly missedBlocks: () => AsyncIterable<readonly { readonly pool: PoolId; readonly id: BlockId }[]>;
}

/** What `block.scrub` answers and `tatami status` shows. */
export interface ScrubReport {
  readonly settings: ScrubSettings;
  readonly running:
    | (Omit<ScrubPass, 'pack' | 'offset' | 'row' | 'gapPacks' | 'lastPack' | 'lastPackBytes'> & {
        readonly isHeldBack: boolean;
      })
    | null;
  readonly waiting: readonly { readonly id: number; readonly pool: number | null }[];
  /** Newest last. */
  readonly finished: readonly ScrubSummary[];
  /** The newest pass over everything. */
  readonly lastFull: ScrubSummary | null;
  /** Begin of the next scheduled pass; null: none is scheduled, or it runs. */
  readonly nextAtMs: number | null;
  readonly index: { readonly rebuiltCount: number; readonly reason: string | null; readonly isRebuilding: boolean };
}

export class Scrubber {
  readonly #options: ScrubberOptions;
  readonly #closing = new AbortController();
  #state: ScrubState;
  #running: Promise<void>;
  #isHeldBack = false;
  /** Damage seen in this pass: the rows of copies that could not be healed come by again. */
  #seen = new Set<string>();
  #failures = 0;
  readonly #startMs: number;
  /** The throttle: no piece before. */
  #notBeforeMs = 0;
  /** Ends the rest. */
  #wake: () => void = () => undefined;

  constructor(options: ScrubberOptions) {
    this.#options = options;
    this.#state = decodeScrubState(options.kv.get(STATE_KEY));
    this.#startMs = options.clock.monotonicMs() + START_DELAY_MS;
    this.#running = this.#run();
  }

  /** A pass as soon as possible over a pool or everything; its number. */
  async start(pool: PoolId | null): Promise<number> {
    const asked = request(this.#state, pool);
    if (asked === undefined) {
      throw new OverloadedError('too many scrubs wait at this node already', { remedy: 'Wait until they are done.' });
    }
    await this.#keep(asked.state);
    this.#wake();
    return asked.id;
  }

  async configure(settings: Partial<ScrubSettings>): Promise<void> {
    await this.#keep({ ...this.#state, settings: { ...this.#state.settings, ...settings } }, true);
    this.#wake();
  }

  report(): ScrubReport {
    const { settings, queue, finished, lastFull } = this.#state;
    const now = this.#nowMs();
    const pass = this.#state.requested ?? (settings.periodMs === 0 ? null : this.#state.scheduled);
    const { count, reason, running } = this.#options.target.reindexed;
    return {
      settings,
      running: pass === null ? null : { ...shown(pass), isHeldBack: this.#isHeldBack },
      waiting: queue,
      finished,
      lastFull,
      nextAtMs: settings.periodMs === 0 || pass !== null ? null : Math.ceil(nextDueMs(this.#state, now)),
      index: { rebuiltCount: count, reason: reason ?? null, isRebuilding: running },
    };
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#wake();
    await this.#running;
  }

  #nowMs(): number {
    return Number(this.#options.clock.wallNs() / 1_000_000n);
  }

  async #keep(state: ScrubState, sync = false): Promise<void> {
    this.#state = state;
    await this.#options.kv.batch([{ key: STATE_KEY, value: encodeScrubState(state) }], { sync });
  }

  // Never rejects.
  async #run(): Promise<void> {
    const { clock, log, target } = this.#options;
    // Not within the constructor.
    await Promise.resolve();
    if (target.indexUnchecked) await this.#checkIndex().catch(() => undefined);
    while (!this.#closing.signal.aborted) {
      const work = nextWork(this.#state, this.#nowMs());
      const isAsked = this.#state.requested !== null || this.#state.queue.length > 0;
      const delayMs = Math.max(this.#notBeforeMs, isAsked ? 0 : this.#startMs) - clock.monotonicMs();
      try {
        if (delayMs > 0) await this.#rest(delayMs);
        else if (work.kind === 'wait') await this.#rest((work.untilMs ?? Infinity) - this.#nowMs());
        else if (work.kind === 'begin') await this.#begin(work.pass);
        else await this.#goOn(work.pass);
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        log.warn({ error: String(error) }, 'the scrub is held up');
        if (work.kind === 'pass' && ++this.#failures >= FAILURES_MAX) await this.#passOver(work.pass);
        await this.#rest(FAILURE_REST_MS);
      }
    }
  }

  async #begin(kind: 'scheduled' | 'requested'): Promise<void> {
    const { target, log } = this.#options;
    const extent = { extents: target.extents(), rowCount: target.rowCount(), rowCostBytes: HEAD_COST_BYTES };
    this.#seen = new Set();
    await this.#keep(begin(this.#state, kind, extent, this.#nowMs()));
    log.info({ kind }, 'a scrub begins');
  }

  /** One piece of the pass, and the rest after it. */
  async #goOn(pass: ScrubPass): Promise<void> {
    const before = pass.doneBytes;
    switch (pass.phase) {
      case 'index':
        await this.#checkIndex();
        await this.#keep(withPass(this.#state, { ...currentOf(this.#state, pass), phase: 'packs' }));
        break;
      case 'packs':
        await this.#packPiece(pass);
        break;
      case 'rows':
        await this.#rowPiece(pass);
        break;
      case 'peers':
        await this.#askPeers(pass);
        break;
    }
    this.#failures = 0;
    const now = currentOf(this.#state, pass);
    const isBusy = this.#options.isBusy();
    this.#isHeldBack = isBusy;
    this.#holdBack(now.doneBytes - before, isBusy);
  }

  #holdBack(costBytes: number, isBusy: boolean): void {
    this.#notBeforeMs = this.#options.clock.monotonicMs() + restMs(this.#state.settings, costBytes, isBusy);
  }

  async #checkIndex(): Promise<void> {
    const { target } = this.#options;
    const fault = await target.checkIndexFiles();
    if (fault !== undefined) await target.reindex(fault);
  }

  async #packPiece(pass: ScrubPass): Promise<void> {
    const { target } = this.#options;
    const piece = nextPiece(pass, target.extents());
    if (piece === undefined) {
      await this.#keep(withPass(this.#state, { ...pass, phase: 'rows' }));
      return;
    }
    const budgetBytes = Math.min(PIECE_BYTES, this.#state.settings.bytesPerSecond);
    const found = await target.scrubPack({ ...piece, budgetBytes }, poolOf(pass));
    const nextOffset = found?.nextOffset ?? piece.endBytes;
    if (found !== undefined) await this.#act(pass, found, piece.pack);
    await this.#keep(withPass(this.#state, { ...currentOf(this.#state, pass), pack: piece.pack, offset: nextOffset }));
  }

  async #rowPiece(pass: ScrubPass): Promise<void> {
    const gapPacks = new Set(pass.gapPacks);
    const found = await this.#options.target.scrubRows(pass.row ?? undefined, ROWS_AT_ONCE, poolOf(pass), gapPacks);
    await this.#act(pass, found);
    const now = currentOf(this.#state, pass);
    if (found.next !== undefined) await this.#keep(withPass(this.#state, { ...now, row: found.next }));
    // A page that could not be read: again, of the new index.
    else if (found.indexFault !== undefined && found.costBytes === 0) return;
    else if (now.isMissingRecords && now.pool === null)
      await this.#keep(withPass(this.#state, { ...now, phase: 'peers' }));
    else await this.#finish(now);
  }

  /** Records that were lost without a trace are missed only by comparing with what others hold. */
  async #askPeers(pass: ScrubPass): Promise<void> {
    for await (const missed of this.#options.missedBlocks()) {
      if (this.#closing.signal.aborted) return;
      for (const { pool, id } of missed) await this.#heal(pass, pool, id, true);
      await this.#rest(restMs(this.#state.settings, LIST_COST_BYTES, this.#options.isBusy()));
    }
    await this.#finish(currentOf(this.#state, pass));
  }

  async #act(pass: ScrubPass, findings: ScrubFindings, pack?: number): Promise<void> {
    await this.#keep(withFindings(this.#state, currentOf(this.#state, pass), findings, pack));
    if (findings.indexFault !== undefined) await this.#options.target.reindex(findings.indexFault);
    for (const { pool, id } of findings.suspects) await this.#heal(pass, pool, id, false);
  }

  async #heal(pass: ScrubPass, pool: PoolId, id: BlockId, isMissed: boolean): Promise<void> {
    const name = `${pool}/${Buffer.from(id).toString('latin1')}`;
    if (this.#seen.has(name)) return;
    const outcome = await this.#options.healer.heal(pool, id, 'scrub', isMissed);
    if (outcome !== 'healed' && outcome !== 'unhealed') return;
    this.#seen.add(name);
    const now = currentOf(this.#state, pass);
    const healedCount = now.healedCount + (outcome === 'healed' ? 1 : 0);
    await this.#keep(withPass(this.#state, { ...now, foundCount: now.foundCount + 1, healedCount }));
  }

  async #finish(pass: ScrubPass): Promise<void> {
    const { target, log } = this.#options;
    const packs = new Set(target.extents().map(({ pack }) => pack));
    await this.#keep(finish(this.#state, pass, packs, this.#nowMs()), true);
    const { blockCount, foundCount, healedCount, indexFaultCount } = pass;
    log.info({ blockCount, foundCount, healedCount, indexFaultCount }, 'a scrub has ended');
  }

  /** The piece at hand fails again and again: what comes behind it must not wait for ever. */
  async #passOver(pass: ScrubPass): Promise<void> {
    this.#failures = 0;
    const { target, log } = this.#options;
    log.warn(
      { phase: pass.phase, pack: pass.pack, offset: pass.offset },
      'a part could not be scrubbed; going on behind it',
    );
    const now = currentOf(this.#state, pass);
    if (now.phase === 'index') await this.#keep(withPass(this.#state, { ...now, phase: 'packs' }));
    else if (now.phase === 'packs') {
      const piece = nextPiece(now, target.extents());
      const next = piece === undefined ? { phase: 'rows' as const } : { pack: piece.pack, offset: piece.endBytes };
      await this.#keep(withPass(this.#state, { ...now, ...next }));
    } else await this.#finish(now);
  }

  async #rest(delayMs: number): Promise<void> {
    const { clock } = this.#options;
    if (this.#closing.signal.aborted) return;
    let timer: Timer | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = clock.setTimer(Math.max(1, Math.min(delayMs, REST_MAX_MS)), resolve);
    });
    timer?.cancel();
  }
}

function poolOf({ pool }: ScrubPass): PoolId | undefined {
  return pool === null ? undefined : (pool as PoolId);
}

function shown(pass: ScrubPass) {
  const { pack, offset, row, gapPacks, lastPack, lastPackBytes, ...rest } = pass;
  void [pack, offset, row, gapPacks, lastPack, lastPackBytes];
  return rest;
}
