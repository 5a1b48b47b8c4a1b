/** What is expected here is what the kernel does: fs/posix_acl.c. */
import { describe, expect, it } from 'vitest';
import {
  ACL_MAX_BYTES,
  aclAfterChmod,
  aclKindOf,
  aclName,
  aclOfNew,
  checkAcl,
  decodeAcl,
  encodeAcl,
  isPlain,
  modeWithAcl,
} from './acl.ts';
import { acl } from './testing-acl.ts';

const code = (work: () => unknown): unknown => {
  try {
    work();
    return 'done';
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
};

describe('the value of the attribute', () => {
  it('is the kernel’s: version 2, then tag, permissions and id, little endian', () => {
    const value = encodeAcl(acl('u::rwx,u:1000:r-x,g::---,m::r-x,o::--x'));
    expect(
      Buffer.from(value)
        .toString('hex')
        .match(/.{2,16}/g),
    ).toEqual(
      ['02000000' + '01000700', 'ffffffff' + '02000500', 'e8030000' + '04000000', 'ffffffff' + '10000500'].concat([
        'ffffffff' + '20000100',
        'ffffffff',
      ]),
    );
    expect(decodeAcl(value)).toEqual(acl('u::rwx,u:1000:r-x,g::---,m::r-x,o::--x'));
  });

  it('without entries says that there is no list', () => {
    expect(decodeAcl(new Uint8Array(0))).toBeUndefined();
    expect(decodeAcl(Uint8Array.of(2, 0, 0, 0))).toBeUndefined();
  });

  it('loses ids where a tag has none', () => {
    const value = encodeAcl(acl('u::rwx,g::---,o::--x'));
    value[8] = 7;
    expect(decodeAcl(value)).toEqual(acl('u::rwx,g::---,o::--x'));
  });

  it('is refused where it is not one', () => {
    const value = encodeAcl(acl('u::rwx,g::---,o::--x'));
    const changed = (at: number, byte: number) => Uint8Array.from(value, (old, index) => (index === at ? byte : old));
    expect(code(() => decodeAcl(value.subarray(0, 3)))).toBe('EINVAL');
    expect(code(() => decodeAcl(value.subarray(0, value.length - 1)))).toBe('EINVAL');
    expect(code(() => decodeAcl(changed(0, 1)))).toBe('EOPNOTSUPP');
    expect(code(() => decodeAcl(changed(4, 3)))).toBe('EINVAL');
    expect(code(() => decodeAcl(changed(5, 1)))).toBe('EINVAL');
    const many = (count: number) => acl(`u::rwx,${'u:1:r--,'.repeat(count)}g::---,m::r--,o::---`);
    expect(encodeAcl(many(507)).length).toBe(ACL_MAX_BYTES - 4);
    expect(code(() => decodeAcl(encodeAcl(many(507))))).toBe('done');
    expect(code(() => decodeAcl(encodeAcl(many(508))))).toBe('ENOSPC');
  });

  it('has one of two names', () => {
    expect(aclKindOf(aclName('access'))).toBe('access');
    expect(aclKindOf(Buffer.from('system.posix_acl_default'))).toBe('default');
    for (const name of ['', 'system.', 'system.posix_acl_access2', 'user.a']) {
      expect(aclKindOf(Buffer.from(name))).toBeUndefined();
    }
  });
});

describe('a list', () => {
  it.each([
    'u::rwx,g::r-x,o::---',
    'u::rwx,g::r-x,m::rwx,o::---',
    'u::rwx,u:1:---,g::r-x,m::rwx,o::---',
    'u::rwx,g::r-x,g:1:---,m::rwx,o::---',
    'u::---,u:2:rwx,u:1:r--,u:1:r--,g::r-x,g:5:---,g:5:rwx,m::---,o::rwx',
  ])('is valid: %s', (text) => expect(code(() => checkAcl(acl(text)))).toBe('done'));

  it.each([
    ['without owner', 'g::r-x,o::---'],
    ['without group', 'u::rwx,o::---'],
    ['without other', 'u::rwx,g::r-x'],
    ['with two owners', 'u::rwx,u::rwx,g::r-x,o::---'],
    ['with two groups', 'u::rwx,g::r-x,g::r-x,o::---'],
    ['with two others', 'u::rwx,g::r-x,o::---,o::---'],
    ['with two masks', 'u::rwx,g::r-x,m::r--,m::r--,o::---'],
    ['with users and no mask', 'u::rwx,u:1:rwx,g::r-x,o::---'],
    ['with groups and no mask', 'u::rwx,g::r-x,g:1:rwx,o::---'],
    ['with a user behind the group', 'u::rwx,g::r-x,u:1:rwx,m::rwx,o::---'],
    ['with a group before the group', 'u::rwx,g:1:rwx,g::r-x,m::rwx,o::---'],
    ['with the mask at the end', 'u::rwx,u:1:rwx,g::r-x,o::---,m::rwx'],
    ['with the mask before the group', 'u::rwx,m::rwx,g::r-x,o::---'],
    ['of nobody', `u::rwx,u:${0xffff_ffff}:rwx,g::r-x,m::rwx,o::---`],
  ])('is not valid %s', (_, text) => expect(code(() => checkAcl(acl(text)))).toBe('EINVAL'));

  it('is not valid with permissions that there are not', () => {
    const [owner, ...rest] = acl('u::rwx,g::r-x,o::---');
    expect(code(() => checkAcl([{ ...owner!, permissions: 8 }, ...rest]))).toBe('EINVAL');
  });

  it('says what the mode says, or more', () => {
    expect(isPlain(acl('u::rwx,g::r-x,o::---'))).toBe(true);
    expect(isPlain(acl('u::rwx,g::r-x,m::r-x,o::---'))).toBe(false);
    expect(isPlain(acl('u::rwx,u:1:r--,g::r-x,m::r-x,o::---'))).toBe(false);
    expect(modeWithAcl(0o7000, acl('u::rwx,g::r-x,o::--x'))).toBe(0o7751);
    expect(modeWithAcl(0o777, acl('u::r--,u:1:rwx,g::rwx,g:2:rwx,m::-w-,o::---'))).toBe(0o420);
  });

  it('follows chmod: with a mask, group and others stay as they are', () => {
    expect(aclAfterChmod(acl('u::rwx,g::r-x,o::---'), 0o4621)).toEqual(acl('u::rw-,g::-w-,o::--x'));
    expect(aclAfterChmod(acl('u::rwx,u:1:rwx,g::r-x,g:2:rwx,m::rwx,o::---'), 0o641)).toEqual(
      acl('u::rw-,u:1:rwx,g::r-x,g:2:rwx,m::r--,o::--x'),
    );
  });

  it('is inherited as far as the mode that was asked for allows', () => {
    const created = (defaults: string, mode: number) => {
      const made = aclOfNew(acl(defaults), mode);
      return [made, modeWithAcl(mode, made).toString(8)];
    };
    expect(created('u::rwx,g::r-x,o::r--', 0o666)).toEqual([acl('u::rw-,g::r--,o::r--'), '644']);
    expect(created('u::rwx,u:1:rwx,g::rwx,m::rwx,o::---', 0o2644)).toEqual([
      acl('u::rw-,u:1:rwx,g::rwx,m::r--,o::---'),
      '2640',
    ]);
    expect(created('u::r--,g::rwx,m::-wx,o::rwx', 0o777)).toEqual([acl('u::r--,g::rwx,m::-wx,o::rwx'), '437']);
  });
});
