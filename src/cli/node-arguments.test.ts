import { expect, it } from 'vitest';
import { checkAddresses, checkOwnAddress } from './node-arguments.ts';

it('the address of a node is one by which others reach it', () => {
  for (const good of ['192.0.2.7:7400', '[2001:db8::7]:7400', 'localhost:7400']) {
    expect(checkOwnAddress(good, '--listen')).toBe(good);
  }
  for (const bad of ['0.0.0.0:7400', '[::]:7400', '192.0.2.7:0', '192.0.2.7']) {
    expect(() => checkOwnAddress(bad, '--listen')).toThrow(/--listen/);
  }
  expect(checkAddresses('192.0.2.7:7400, 192.0.2.8:7400', 'join')).toEqual(['192.0.2.7:7400', '192.0.2.8:7400']);
});
