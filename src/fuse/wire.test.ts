import fc from 'fast-check';
import { expect, it } from 'vitest';
import { getTime, getU64, setTime, setTimeout64, setU64 } from './wire.ts';

const view = new DataView(new ArrayBuffer(16));

it('64 bit numbers come back', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      setU64(view, 0, value);
      expect(view.getBigUint64(0, true)).toBe(BigInt(value));
      expect(getU64(view, 0)).toBe(value);
    }),
  );
});

it('numbers beyond 2^53-1 are seen to be too large', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }), (value) => {
      view.setBigUint64(0, value, true);
      expect(getU64(view, 0)).toBeGreaterThan(Number.MAX_SAFE_INTEGER);
    }),
  );
});

it('times are split as exactly as with bigint arithmetic', () => {
  const near = (centre: bigint) => fc.bigInt({ min: centre - 5n, max: centre + 5n });
  const any = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
  fc.assert(
    fc.property(
      fc.oneof(any, near(0n), near(10n ** 9n), near(1_700_000_000n * 10n ** 9n), near(-(10n ** 9n))),
      (ns) => {
        setTime(view, 0, 8, ns);
        const nanos = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
        expect(view.getUint32(8, true)).toBe(Number(nanos));
        expect(view.getBigInt64(0, true)).toBe((ns - nanos) / 1_000_000_000n);
        expect(getTime(view, 0, 8)).toBe(ns);
      },
    ),
    { numRuns: 2000 },
  );
});

it('times out of range are clamped', () => {
  setTime(view, 0, 8, 2n ** 70n);
  expect(getTime(view, 0, 8)).toBe(2n ** 63n - 1n);
  setTime(view, 0, 8, -(2n ** 70n));
  expect(getTime(view, 0, 8)).toBe(-(2n ** 63n));
});

it('timeouts', () => {
  const encoded = (ms: number): [number, number] => {
    setTimeout64(view, 0, 8, ms);
    return [getU64(view, 0), view.getUint32(8, true)];
  };
  expect(encoded(0)).toEqual([0, 0]);
  expect(encoded(1250)).toEqual([1, 250_000_000]);
  expect(encoded(-5)).toEqual([0, 0]);
  expect(encoded(Infinity)).toEqual([3_200_000_000, 0]);
});
