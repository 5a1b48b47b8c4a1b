import { describe, expect, it } from 'vitest';
import type { Ino } from '../ids.ts';
import type { Attr } from '../meta/types.ts';
import { WholeDirectories } from './whole-directories.ts';

const DIRECTORY = 7 as Ino;
const name = (text: string): Uint8Array => new TextEncoder().encode(text);
const at = (version: number): Attr => ({ ino: DIRECTORY, version }) as Attr;

describe('whole directories', () => {
  it('lack what was not made in them, and no longer what was', () => {
    const whole = new WholeDirectories();
    expect(whole.lacks(DIRECTORY, name('a'), 0)).toBe(false);
    whole.made(at(1), 1_000);
    expect(whole.lacks(DIRECTORY, name('a'), 0)).toBe(true);
    whole.changed(at(2), name('a'), true, 1_000);
    expect(whole.lacks(DIRECTORY, name('a'), 0)).toBe(false);
    expect(whole.lacks(DIRECTORY, name('b'), 0)).toBe(true);
    whole.changed(at(3), name('a'), false, 1_000);
    expect(whole.lacks(DIRECTORY, name('a'), 0)).toBe(true);
  });

  it('are forgotten when somebody else has changed them', () => {
    const whole = new WholeDirectories();
    whole.made(at(1), 1_000);
    whole.changed(at(3), name('a'), true, 1_000);
    expect(whole.lacks(DIRECTORY, name('b'), 0)).toBe(false);
  });

  it('are not remembered without end, though nothing is in them', () => {
    const whole = new WholeDirectories();
    for (let ino = 10; ino < 100_010; ino++) whole.made({ ino, version: 1 } as Attr, 1_000);
    expect(whole.lacks(10 as Ino, name('a'), 0)).toBe(true);
    whole.made(at(1), 1_000);
    expect(whole.lacks(10 as Ino, name('a'), 0)).toBe(false);
    expect(whole.lacks(DIRECTORY, name('a'), 0)).toBe(true);
  });

  it('are believed until their time has run out, which each own change renews', () => {
    const whole = new WholeDirectories();
    whole.made(at(1), 1_000);
    whole.changed(at(2), name('a'), true, 2_000);
    expect(whole.lacks(DIRECTORY, name('b'), 1_999)).toBe(true);
    expect(whole.lacks(DIRECTORY, name('b'), 2_000)).toBe(false);
  });
});
