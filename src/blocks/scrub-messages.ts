/** `block.scrub`: shapes, and the checks of what arrives (docs/protocol.md, "Blocks"). */
import { FormatError } from '../errors.ts';
import type { PoolId } from '../ids.ts';
import { SCRUB_PERIOD_MAX_MS, SCRUB_RATE_MAX, SCRUB_RATE_MIN, type ScrubSettings } from './scrub-plan.ts';
import type { ScrubReport } from './scrubber.ts';

export type ScrubRequest =
  | { readonly action: 'report' }
  /** `pool` null: everything. */
  | { readonly action: 'start'; readonly pool: PoolId | null }
  /** What is absent stays as it is. */
  | { readonly action: 'configure'; readonly settings: Partial<ScrubSettings> };

/** `pass`: number of the pass that was started (or waits already); null for the other actions. */
export interface ScrubReply {
  readonly pass: number | null;
  readonly report: ScrubReport;
}

export function parseScrub(header: unknown): ScrubRequest {
  const fields = (typeof header === 'object' && header !== null ? header : {}) as Readonly<Record<string, unknown>>;
  const { action } = fields;
  if (action === 'report') return { action };
  if (action === 'start') {
    const pool = fields['pool'] ?? null;
    if (pool === null) return { action, pool };
    return { action, pool: bounded(pool, 'pool', 1, 2 ** 32 - 1) as PoolId };
  }
  if (action !== 'configure') throw new FormatError('block.scrub: action must be report, start or configure');
  const settings = (fields['settings'] ?? {}) as Readonly<Record<string, unknown>>;
  const { periodMs, bytesPerSecond } = settings;
  return {
    action,
    settings: {
      ...(periodMs === undefined ? {} : { periodMs: bounded(periodMs, 'periodMs', 0, SCRUB_PERIOD_MAX_MS) }),
      ...(bytesPerSecond === undefined
        ? {}
        : { bytesPerSecond: bounded(bytesPerSecond, 'bytesPerSecond', SCRUB_RATE_MIN, SCRUB_RATE_MAX) }),
    },
  };
}

function bounded(value: unknown, name: string, least: number, most: number): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most) return value;
  throw new FormatError(`${name} must be an integer from ${least} to ${most}`);
}
