import { expect, it } from 'vitest';
import { findMount, parseMountInfo } from './mount-table.ts';

const TABLE = [
  '22 27 0:21 / /proc rw,relatime - proc proc rw',
  '27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard',
  '40 27 0:39 / /a\\040b\\134c rw - fuse.tatamifs one rw,user_id=0',
  '41 40 0:40 / /a\\040b\\134c rw - fuse.tatamifs two rw,user_id=0',
  'no line of this table',
  '',
].join('\n');

it('parses lines with and without optional fields, and skips what it does not know', () => {
  expect(parseMountInfo(TABLE).map((entry) => [entry.device, entry.mountPoint, entry.fsType, entry.source])).toEqual([
    ['0:21', '/proc', 'proc', 'proc'],
    ['254:0', '/', 'ext4', '/dev/vda'],
    ['0:39', '/a b\\c', 'fuse.tatamifs', 'one'],
    ['0:40', '/a b\\c', 'fuse.tatamifs', 'two'],
  ]);
});

it('finds the topmost of several mounts', () => {
  expect(findMount(parseMountInfo(TABLE), '/a b\\c')?.source).toBe('two');
  expect(findMount(parseMountInfo(TABLE), '/a')).toBeUndefined();
});
