/** Access control lists in the tests: written as setfacl takes them, with numbers for ids. */
import { AclTag, type Acl } from './acl.ts';

const TAGS: Readonly<Record<string, number>> = {
  'u:': AclTag.OWNER,
  u: AclTag.USER,
  'g:': AclTag.OWNING_GROUP,
  g: AclTag.GROUP,
  'm:': AclTag.MASK,
  'o:': AclTag.OTHER,
};

/** `u::rwx,u:1000:r--,g::r-x,m::rwx,o::---`, in the order that it has. */
export function acl(text: string): Acl {
  return text.split(',').map((entry) => {
    const [who = '', id = '', letters = ''] = entry.split(':');
    const permissions = [...letters].reduce((bits, letter) => bits | ({ r: 4, w: 2, x: 1 }[letter] ?? 0), 0);
    return { tag: TAGS[id === '' ? `${who}:` : who]!, permissions, id: id === '' ? 0xffff_ffff : Number(id) };
  });
}
