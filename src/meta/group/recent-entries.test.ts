import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Epoch, Seq } from '../../ids.ts';
import type { LogEntry } from './log-record.ts';
import { ENTRY_OVERHEAD_BYTES, RecentEntries } from './recent-entries.ts';

function entry(seq: number, size = 10): LogEntry {
  return { seq: seq as Seq, epoch: 1 as Epoch, prevEpoch: 1 as Epoch, command: new Uint8Array(size) };
}

it('keeps the newest that fit, whatever is added, cut off and forgotten', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('add' as const), size: fc.integer({ min: 0, max: 50 }) }),
    fc.record({ kind: fc.constant('cut' as const), back: fc.integer({ min: 0, max: 3_000 }) }),
    fc.record({ kind: fc.constant('clear' as const) }),
    fc.record({ kind: fc.constant('many' as const), count: fc.integer({ min: 1, max: 3_000 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.integer({ min: 0, max: 400_000 }), (steps, maxBytes) => {
      const recent = new RecentEntries();
      let model: LogEntry[] = [];
      let last = 0;
      const add = (size: number) => {
        const added = entry(++last, size);
        recent.add(added);
        recent.shrink(maxBytes, Infinity);
        model.push(added);
        const sizeOf = (entries: LogEntry[]) =>
          entries.reduce((sum, { command }) => sum + command.length + ENTRY_OVERHEAD_BYTES, 0);
        while (model.length > 0 && sizeOf(model.slice(-1)) + sizeOf(model.slice(0, -1)) > maxBytes) model.shift();
      };
      for (const action of steps) {
        if (action.kind === 'add') add(action.size);
        else if (action.kind === 'many') {
          recent.clear();
          model = [];
          for (let i = 0; i < action.count; i++) recent.add(entry(++last, 0));
          recent.shrink(0, last - 5);
          model = Array.from({ length: Math.min(5, action.count) }, (_, i) =>
            entry(last - Math.min(5, action.count) + 1 + i, 0),
          );
        } else if (action.kind === 'cut') {
          last = Math.max(0, last - action.back);
          recent.truncateAfter(last);
          model = model.filter(({ seq }) => seq <= last);
        } else {
          recent.clear();
          model = [];
        }
        expect(recent.firstSeq).toBe(model[0]?.seq);
        for (const { seq } of model) expect(recent.get(seq)?.seq).toBe(seq);
        expect(recent.get((model[0]?.seq ?? last + 1) - 1)).toBeUndefined();
        expect(recent.get(last + 1)).toBeUndefined();
      }
    }),
  );
});
