import fc from 'fast-check';
import { expect, it } from 'vitest';
import { inOrderOfUse, UseCounter, UseOrder } from './use-order.ts';

class Entry {
  readonly bytes: number;
  used = 0;
  newer: Entry | undefined;
  older: Entry | undefined;

  constructor(bytes: number) {
    this.bytes = bytes;
  }
}

it('two orders are walked as one, in the order of the last use', () => {
  const steps = fc.array(fc.record({ kind: fc.constantFrom('add', 'touch', 'remove'), which: fc.nat(30) }));
  fc.assert(
    fc.property(steps, (done) => {
      const counter = new UseCounter();
      const orders = [new UseOrder<Entry>(counter), new UseOrder<Entry>(counter)] as const;
      const orderOf = (entry: Entry): UseOrder<Entry> => orders[entry.bytes % 2]!;
      /** Used longest ago first. */
      let expected: Entry[] = [];
      for (const { kind, which } of done) {
        const entry = kind === 'add' ? new Entry(which) : expected[which % expected.length];
        if (entry === undefined) continue;
        orderOf(entry)[kind as 'add'](entry);
        expected = [...expected.filter((other) => other !== entry), ...(kind === 'remove' ? [] : [entry])];
      }
      expect([...inOrderOfUse(orders[0].oldest, orders[1].oldest)]).toEqual(expected);
      const bytes = expected.reduce((sum, entry) => sum + entry.bytes, 0);
      expect(orders[0].bytes + orders[1].bytes).toBe(bytes);
    }),
  );
});
