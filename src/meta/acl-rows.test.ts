/** Access control lists as mutations: what ext4 does, in one command each. */
import { describe, expect, it } from 'vitest';
import { ROOT_INO, type Ino } from '../ids.ts';
import { aclName, encodeAcl, type AclKind } from './acl.ts';
import type { LocalMetaClient } from './local-client.ts';
import { acl } from './testing-acl.ts';
import { bytes, openLocal, OWNER } from './testing.ts';
import type { Attr, FileType } from './types.ts';

class Table {
  readonly client: LocalMetaClient;
  constructor(client: LocalMetaClient) {
    this.client = client;
  }

  static async open(): Promise<Table> {
    return new Table((await openLocal()).client);
  }

  async make(parent: Ino, name: string, type: FileType, mode: number, umask?: number): Promise<Attr> {
    const { attr } = await this.client.mutate({
      op: 'make',
      parent,
      name: bytes(name),
      type,
      mode,
      owner: OWNER,
      rdev: 0,
      exclusive: true,
      ...(umask === undefined ? {} : { umask }),
      ...(type === 'symlink' ? { target: bytes('to') } : {}),
    });
    return attr!;
  }

  async set(ino: Ino, kind: AclKind, text: string | Uint8Array, killSetgid = false): Promise<Attr> {
    const value = typeof text === 'string' ? encodeAcl(acl(text)) : text;
    const set = { op: 'setxattr', ino, name: aclName(kind), value, mode: 'any' } as const;
    const { attr } = await this.client.mutate(killSetgid ? { ...set, killSetgid } : set);
    return attr!;
  }

  async remove(ino: Ino, kind: AclKind): Promise<Attr> {
    return (await this.client.mutate({ op: 'removexattr', ino, name: aclName(kind) })).attr!;
  }

  async chmod(ino: Ino, mode: number): Promise<Attr> {
    return (await this.client.mutate({ op: 'setattr', ino, set: { mode } })).attr!;
  }

  async expectAcl(ino: Ino, kind: AclKind, text: string | undefined): Promise<void> {
    const asked = this.client.query<'getxattr'>({ op: 'getxattr', ino, name: aclName(kind) });
    if (text === undefined) await expect(asked).rejects.toMatchObject({ code: 'ENODATA' });
    else expect(Buffer.from((await asked).value)).toEqual(Buffer.from(encodeAcl(acl(text))));
    const { attr } = await this.client.query<'getattr'>({ op: 'getattr', ino });
    expect(kind === 'access' ? attr.hasAcl : attr.hasDefaultAcl).toBe(text !== undefined);
    const { names } = await this.client.query<'listxattr'>({ op: 'listxattr', ino });
    expect(names.some((name) => Buffer.compare(name, aclName(kind)) === 0)).toBe(text !== undefined);
  }
}

describe('an access list', () => {
  it('sets the mode bits, follows chmod, and goes without changing them', async () => {
    const table = await Table.open();
    const { ino, ctimeNs } = await table.make(ROOT_INO, 'f', 'file', 0o4600);
    const set = await table.set(ino, 'access', 'u::rwx,u:7:rw-,g::---,m::rw-,o::r--');
    expect(set).toMatchObject({ mode: 0o4764, hasAcl: true, hasDefaultAcl: false });
    expect(set.ctimeNs).toBeGreaterThan(ctimeNs);
    expect(await table.chmod(ino, 0o641)).toMatchObject({ mode: 0o641, hasAcl: true });
    await table.expectAcl(ino, 'access', 'u::rw-,u:7:rw-,g::---,m::r--,o::--x');
    expect(await table.remove(ino, 'access')).toMatchObject({ mode: 0o641, hasAcl: false });
    await table.expectAcl(ino, 'access', undefined);
  });

  it('that says what the mode says is not kept', async () => {
    const table = await Table.open();
    const { ino } = await table.make(ROOT_INO, 'f', 'file', 0o600);
    const plain = await table.set(ino, 'access', 'u::rw-,g::r--,o::---');
    expect(plain).toMatchObject({ mode: 0o640, hasAcl: false });
    await table.expectAcl(ino, 'access', undefined);
    expect((await table.set(ino, 'access', 'u::rw-,g::r--,o::---')).ctimeNs).toBe(plain.ctimeNs);
    await table.set(ino, 'access', 'u::rw-,u:1:r--,g::r--,m::r--,o::---');
    expect(await table.set(ino, 'access', 'u::rwx,g::---,o::---')).toMatchObject({ mode: 0o700, hasAcl: false });
    await table.expectAcl(ino, 'access', undefined);
  });

  it('takes the setgid bit of whoever is not in the group; a default list does not', async () => {
    const table = await Table.open();
    const { ino } = await table.make(ROOT_INO, 'd', 'directory', 0o3770);
    expect(await table.set(ino, 'default', 'u::rwx,g::r-x,o::---', true)).toMatchObject({ mode: 0o3770 });
    expect(await table.set(ino, 'access', 'u::rwx,g::r-x,o::---')).toMatchObject({ mode: 0o3750 });
    expect(await table.set(ino, 'access', 'u::rwx,g::r-x,o::---', true)).toMatchObject({ mode: 0o1750 });
  });

  it('is removed without an error where there is none, and by a value without entries', async () => {
    const table = await Table.open();
    const { ino, ctimeNs } = await table.make(ROOT_INO, 'f', 'file', 0o600);
    expect((await table.remove(ino, 'access')).ctimeNs).toBe(ctimeNs);
    expect((await table.remove(ino, 'default')).ctimeNs).toBe(ctimeNs);
    await table.set(ino, 'access', 'u::rw-,u:1:r--,g::r--,m::r--,o::---');
    await table.set(ino, 'access', Uint8Array.of(2, 0, 0, 0));
    await table.expectAcl(ino, 'access', undefined);
  });

  it('counts as an attribute, and goes with its file', async () => {
    const table = await Table.open();
    const { ino } = await table.make(ROOT_INO, 'f', 'file', 0o600);
    await table.set(ino, 'access', 'u::rw-,u:1:r--,g::r--,m::r--,o::---');
    await table.client.mutate({ op: 'setxattr', ino, name: bytes('user.a'), value: bytes('v'), mode: 'any' });
    const { names } = await table.client.query<'listxattr'>({ op: 'listxattr', ino });
    expect(names.map((name) => Buffer.from(name).toString())).toEqual(['system.posix_acl_access', 'user.a']);
    await table.client.mutate({ op: 'unlink', parent: ROOT_INO, name: bytes('f'), keepOpen: false });
  });
});

describe('a list is refused', () => {
  it('as by the kernel, and nothing has changed', async () => {
    const table = await Table.open();
    const file = await table.make(ROOT_INO, 'f', 'file', 0o600);
    const link = await table.make(ROOT_INO, 'l', 'symlink', 0o777);
    const refused = (ino: Ino, kind: AclKind, value: string | Uint8Array) =>
      table.set(ino, kind, value).then(
        () => 'done',
        (error: unknown) => (error as { code: string }).code,
      );
    expect(await refused(file.ino, 'default', 'u::rwx,g::r-x,o::---')).toBe('EACCES');
    expect(await refused(link.ino, 'access', 'u::rwx,g::r-x,o::---')).toBe('EOPNOTSUPP');
    expect(await refused(file.ino, 'access', 'u::rwx,u:1:rwx,g::r-x,o::---')).toBe('EINVAL');
    expect(await refused(file.ino, 'access', bytes('x'))).toBe('EINVAL');
    expect(await refused(file.ino, 'access', Uint8Array.of(1, 0, 0, 0))).toBe('EOPNOTSUPP');
    expect(await refused(file.ino, 'access', `u::rwx,${'u:1:r--,'.repeat(600)}g::r--,m::---,o::---`)).toBe('ENOSPC');
    const { attr } = await table.client.query<'getattr'>({ op: 'getattr', ino: file.ino });
    expect(attr).toEqual(file);
  });
});

describe('what is made', () => {
  const DEFAULTS = 'u::rwx,u:7:rwx,g::r-x,m::rwx,o::--x';

  it('loses the umask, or gets what the default list of its directory says instead', async () => {
    const table = await Table.open();
    const plain = await table.make(ROOT_INO, 'plain', 'file', 0o4666, 0o027);
    expect(plain).toMatchObject({ mode: 0o4640, hasAcl: false });
    const { ino } = await table.make(ROOT_INO, 'd', 'directory', 0o777, 0o022);
    await table.set(ino, 'default', DEFAULTS);
    await table.expectAcl(ino, 'access', undefined);

    const file = await table.make(ino, 'f', 'file', 0o664, 0o077);
    expect(file).toMatchObject({ mode: 0o660, hasAcl: true, hasDefaultAcl: false });
    await table.expectAcl(file.ino, 'access', 'u::rw-,u:7:rwx,g::r-x,m::rw-,o::---');

    const below = await table.make(ino, 'below', 'directory', 0o777, 0o077);
    expect(below).toMatchObject({ mode: 0o771, hasAcl: true, hasDefaultAcl: true });
    await table.expectAcl(below.ino, 'access', DEFAULTS);
    await table.expectAcl(below.ino, 'default', DEFAULTS);

    const link = await table.make(ino, 'l', 'symlink', 0o777, 0o077);
    expect(link).toMatchObject({ mode: 0o777, hasAcl: false });
    const fifo = await table.make(below.ino, 'p', 'fifo', 0o600, 0o077);
    expect(fifo).toMatchObject({ mode: 0o600, hasAcl: true });
    await table.expectAcl(fifo.ino, 'access', 'u::rw-,u:7:rwx,g::r-x,m::---,o::---');
  });

  it('needs no list of its own after a plain default list; directories hand it on, with the setgid bit', async () => {
    const table = await Table.open();
    const { ino } = await table.make(ROOT_INO, 'd', 'directory', 0o2777);
    await table.set(ino, 'default', 'u::rwx,g::r-x,o::---');
    expect(await table.make(ino, 'f', 'file', 0o666, 0o077)).toMatchObject({ mode: 0o640, hasAcl: false });
    const below = await table.make(ino, 'below', 'directory', 0o777, 0o077);
    expect(below).toMatchObject({ mode: 0o2750, hasAcl: false, hasDefaultAcl: true });
    await table.remove(ino, 'default');
    expect(await table.make(ino, 'g', 'file', 0o666, 0o077)).toMatchObject({ mode: 0o600 });
    expect(await table.make(below.ino, 'g', 'file', 0o666, 0o077)).toMatchObject({ mode: 0o640 });
  });
});
