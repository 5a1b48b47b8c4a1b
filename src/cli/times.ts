/** Spans of time in words, to one unit: what people want to know of the past and the future. */

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1_000],
] as const;

/** `3 d`, `5 h`, `2 min`, `14 s`, `0 s`. */
export function duration(ms: number): string {
  // From twice the unit on: 90 minutes are told as such.
  const found = UNITS.find(([, length]) => ms >= 2 * length) ?? UNITS[UNITS.length - 1];
  const [unit, length] = found as (typeof UNITS)[number];
  return `${Math.max(0, Math.round(ms / length))} ${unit}`;
}

export function ago(atMs: number, nowMs = Date.now()): string {
  return nowMs - atMs < 1_000 ? 'just now' : `${duration(nowMs - atMs)} ago`;
}

export function until(atMs: number, nowMs = Date.now()): string {
  return atMs - nowMs < 1_000 ? 'soon' : `in ${duration(atMs - nowMs)}`;
}
