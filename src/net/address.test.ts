import { describe, expect, it } from 'vitest';
import { UsageError } from '../errors.ts';
import { formatAddress, isLoopback, parseAddress } from './address.ts';

describe('addresses', () => {
  it.each([
    ['127.0.0.1:7420', '127.0.0.1', 7420],
    ['[::1]:0', '::1', 0],
    ['[fe80::1%eth0]:9', 'fe80::1%eth0', 9],
    ['node-1.example.org:65535', 'node-1.example.org', 65535],
  ])('%s', (address, host, port) => {
    expect(parseAddress(address)).toEqual({ host, port });
    expect(formatAddress(host, port)).toBe(address);
  });

  it.each(['', 'host', 'host:', ':1', 'host:65536', '::1:80', 'a b:1', '[::1]', 'host:-1', 'host:1e3'])(
    '%j is none',
    (text) => {
      expect(() => parseAddress(text)).toThrow(UsageError);
    },
  );

  it.each([
    ['127.3.2.1:1', true],
    ['localhost:1', true],
    ['[::1]:1', true],
    ['[::ffff:127.0.0.1]:1', true],
    ['10.0.0.1:1', false],
    ['127.evil.example:1', false],
    ['0.0.0.0:1', false],
  ])('%s on the loopback interface: %s', (address, yes) => {
    expect(isLoopback(address)).toBe(yes);
  });
});
