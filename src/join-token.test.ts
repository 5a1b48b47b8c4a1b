import { describe, expect, it } from 'vitest';
import { formatJoinToken, parseJoinToken } from './join-token.ts';

const key = { clusterId: '0123456789abcdef'.repeat(2), secret: new Uint8Array(32).fill(200) };
const addresses = ['192.0.2.1:7400', '[2001:db8::7]:7400', 'node-3.example:7400'];

describe('join tokens', () => {
  it('carry key and addresses in one word', () => {
    const token = formatJoinToken({ key, addresses });
    expect(token).toMatch(/^tatami-token-1\.[A-Za-z0-9_-]+\.[0-9a-f]{16}$/);
    expect(parseJoinToken(token)).toEqual({ key, addresses });
    expect(parseJoinToken(`  ${token}\n`)).toEqual({ key, addresses });
  });

  it('keep their format', () => {
    expect(formatJoinToken({ key, addresses: ['192.0.2.1:7400'] })).toBe(
      'tatami-token-1.ASNFZ4mrze8BI0VniavN78jIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIMTkyLjAuMi4xOjc0MDA.fc9e6b8b32057a74',
    );
  });

  it.each([
    ['', /not a join token/],
    ['hello', /not a join token/],
    ['tatami-key-1 abc def', /not a join token/],
    ['tatami-token-1', /not a join token/],
    ['tatami-token-2.abc.def', /newer format/],
    ['tatami-token-1.abc.def', /damaged, or not whole/],
    [formatJoinToken({ key, addresses }).slice(0, -3), /damaged, or not whole/],
    [formatJoinToken({ key, addresses: [] }), /damaged, or not whole/],
    [formatJoinToken({ key, addresses: ['nowhere'] }), /damaged, or not whole/],
    [`${formatJoinToken({ key, addresses })}.more`, /damaged, or not whole/],
  ])('that are not whole are refused: %s', (text, message) => {
    expect(() => parseJoinToken(text)).toThrow(message);
  });

  it('are not shown in errors', () => {
    const token = formatJoinToken({ key, addresses });
    try {
      parseJoinToken(token.replace('.', '.A'));
      expect.unreachable();
    } catch (error) {
      expect(String(error)).not.toContain(token.slice(20, 40));
    }
  });
});
