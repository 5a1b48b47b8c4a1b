/** Whether this program was called in place of /sbin/mount.tatamifs. */
import { basename } from 'node:path';

export interface Helper {
  readonly name: 'mountHelper' | 'umountHelper';
  readonly args: readonly string[];
}

/**
 * By its first word, as the files say that `tatami install-helpers` writes (`mount-helper`, `umount-helper`); or by the name under
 * which it runs, for links to the command (`ln -s $(which tatami) /sbin/mount.tatamifs`).
 */
export function helperCall(argv: readonly string[]): Helper | undefined {
  const [, self = '', first, ...rest] = argv;
  if (first === 'mount-helper') return { name: 'mountHelper', args: rest };
  if (first === 'umount-helper') return { name: 'umountHelper', args: rest };
  const called = /^(u?mount)\.(?:fuse\.)?tatamifs$/.exec(basename(self))?.[1];
  if (called === undefined) return undefined;
  return { name: called === 'mount' ? 'mountHelper' : 'umountHelper', args: argv.slice(2) };
}
