/** Points in time and spans of it as people write them on a command line. */
import { InvalidArgumentError } from 'commander';

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const DATE = /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2}))?)?$/;

/** `90s`, `10m`, `8h`, `2d`, `1w` ago; `today`, `yesterday`; `2026-11-25`, `2026-11-25 02:14[:05]` (local), or with a zone as ISO 8601 has it. */
export function parseSince(text: string, now = new Date()): Date {
  const wanted = text.trim();
  const [, count = '', unit = ''] = /^(\d{1,9})([smhdw])$/.exec(wanted) ?? [];
  if (count !== '') return new Date(Math.max(0, now.getTime() - Number(count) * (UNIT_MS[unit] ?? 0)));
  if (wanted === 'today' || wanted === 'yesterday') {
    return new Date(now.getFullYear(), now.getMonth(), now.getDate() - (wanted === 'today' ? 0 : 1));
  }
  const parts = DATE.exec(wanted);
  if (parts !== null) {
    const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts
      .slice(1)
      .map((part) => Number(part ?? 0));
    const date = new Date(year, month - 1, day, hour, minute, second);
    // The 31st of a month that has none would be taken for the 1st of the next.
    if (date.getMonth() === month - 1 && date.getDate() === day && hour < 24 && minute < 60 && second < 60) return date;
  } else if (/^\d{4}-\d{2}-\d{2}T[\d:.]+(Z|[+-]\d{2}:?\d{2})$/.test(wanted)) {
    const date = new Date(wanted);
    if (!Number.isNaN(date.getTime())) return date;
  }
  throw new InvalidArgumentError(
    'It is a time ago (90s, 10m, 8h, 2d, 1w), today, yesterday, or a date like 2026-11-25 or "2026-11-25 02:14".',
  );
}

/** A span: `90s`, `10m`, `2h`, `1d`, or `never` (null). In milliseconds. */
export function parseSpan(text: string): number | null {
  const wanted = text.trim();
  if (wanted === 'never') return null;
  const [, count = '', unit = ''] = /^(\d{1,9})([smhdw])$/.exec(wanted) ?? [];
  if (count !== '') return Number(count) * (UNIT_MS[unit] ?? 0);
  throw new InvalidArgumentError('It is a time like 90s, 10m, 2h or 1d, or never.');
}
