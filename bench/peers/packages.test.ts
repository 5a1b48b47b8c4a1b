import { expect, it } from 'vitest';
import { onlineBricks } from './gluster.ts';
import { connectionsTo } from './moosefs.ts';
import { installCommand, missingPackages } from './packages.ts';

it('names each missing package once, and how to install them', () => {
  const kinds = [{ programs: { one: 'pkg-b', two: 'pkg-b', three: 'pkg-a' } }, { programs: { four: 'pkg-c' } }];
  const missing = missingPackages(kinds, (program) => program === 'four');
  expect(missing).toEqual(['pkg-a', 'pkg-b']);
  expect(installCommand(missing)).toBe('apt-get install -y --no-install-recommends pkg-a pkg-b');
  expect(missingPackages(kinds, () => true)).toEqual([]);
});

it('counts bricks that are online, and nothing else', () => {
  const node = (path: string, status: number) => `<node>\n<path>${path}</path><status>${status}</status></node>`;
  const xml = `<cliOutput>${node('/b/1', 1)}${node('/b/2', 0)}${node('localhost', 1)}${node('/b/3', 1)}</cliOutput>`;
  expect(onlineBricks(xml)).toBe(2);
  expect(onlineBricks('')).toBe(0);
});

it('counts established connections to a port', () => {
  const text = [
    '  sl  local_address rem_address   st tx_queue rx_queue',
    '   0: 01004E0A:24CC 00000000:0000 0A 00000000:00000000',
    '   1: 01004E0A:24CC 01004E0A:9C40 01 00000000:00000000',
    '   2: 01004E0A:9C40 01004E0A:24CC 01 00000000:00000000',
    '   3: 01004E0A:24CC 02004E0A:9C41 06 00000000:00000000',
  ].join('\n');
  expect(connectionsTo(9420, text)).toBe(1);
});
