import { expect, it } from 'vitest';
import { rawSpace } from './raw-space.ts';

it('counts the free space of a disk once, however many nodes are on it', () => {
  const node = (diskId: string, fileBytes: number, freeBytes: number) => ({ diskId, fileBytes, freeBytes });
  const reports = [node('a', 10, 70), node('a', 20, 69), node('b', 5, 40)];
  expect(rawSpace(reports)).toEqual({ totalBytes: 145, freeBytes: 110 });
  expect(rawSpace([])).toEqual({ totalBytes: 0, freeBytes: 0 });
});
