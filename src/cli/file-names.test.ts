import { describe, expect, it } from 'vitest';
import { childPath, nameFields, shownName } from './file-names.ts';

describe('names of files', () => {
  it.each([
    ['plain', 'plain'],
    ['blank and ünïcödé 畳', 'blank and ünïcödé 畳'],
    ['line\nend', "$'line\\nend'"],
    ['\x1b[31mred', "$'\\033[31mred'"],
    ["it's\t", "$'it\\'s\\t'"],
    ['畳\x07', "$'畳\\007'"],
    ['turned\u202eround', "$'turned\\342\\200\\256round'"],
  ])('%j is shown as %s', (name, shown) => {
    expect(shownName(name)).toBe(shown);
  });

  it('shows bytes that are no UTF-8, and tells scripts all of them', () => {
    const name = Buffer.from([0x61, 0xff, 0xe7, 0x95, 0xb3, 0xc3]);
    expect(shownName(name)).toBe("$'a\\377畳\\303'");
    expect(nameFields('name', name)).toEqual({ name: 'a\ufffd畳\ufffd', nameBase64: name.toString('base64') });
    expect(nameFields('name', Buffer.from('畳'))).toEqual({ name: '畳' });
    expect(childPath('/d//', name)).toEqual(Buffer.concat([Buffer.from('/d/'), name]));
    expect(childPath('/', name)[0]).toBe(0x2f);
  });
});
