/** Steps of vfs-tree.test.ts on names and directories. */
import fc from 'fast-check';
import type { FileType } from '../meta/types.ts';
import type { DirItem } from './ops.ts';
import { refuse, type ModelNode } from './testing-model.ts';
import { equal, same, type World } from './testing-world.ts';
import {
  anyPath,
  caller,
  mode,
  mount,
  onFile,
  onFound,
  onMount,
  onPath,
  path,
  slotIndex,
  umask,
} from './testing-step.ts';
import { name as bytesOf, ROOT } from './testing.ts';

export const made = (type: FileType) =>
  fc.tuple(mount, caller, path, mode, umask).map(([at, who, where, bits, mask]) =>
    onPath(`${type} ${where} ${bits.toString(8)} ${mask} by ${who.uid}`, at, where, async (world, parent, vfs) => {
      const [ino, called] = [world.ino(parent.node), bytesOf(parent.name)];
      const what = { type, mode: bits, umask: mask, rdev: 0x103 };
      const target = type === 'symlink' ? '../a' : '';
      const result = await same(
        () => world.model.make(who, parent.node, parent.name, what, target),
        () => {
          if (type === 'directory') return vfs.mkdir(who, ino, called, bits, mask);
          if (type === 'symlink') return vfs.symlink(who, ino, called, bytesOf(target));
          return vfs.mknod(who, ino, called, type, bits, 0x103, mask);
        },
      );
      if (result === undefined) return;
      world.took(at, result.got);
      world.compare(at, result.expected, result.got.attr);
      world.changed(at, parent.node);
    }),
  );

export const badSymlink = fc.tuple(mount, path, fc.constantFrom(0, 4096)).map(([at, where, size]) =>
  onPath(`symlink ${where} of ${size}`, at, where, async (world, parent, vfs) => {
    const target = 'x'.repeat(size);
    await same(
      () => void world.model.make(ROOT, parent.node, parent.name, { type: 'symlink', mode: 0o777, umask: 0 }, target),
      () => vfs.symlink(ROOT, world.ino(parent.node), bytesOf(parent.name), bytesOf(target)),
    );
  }),
);

export const removed = (kind: 'unlink' | 'rmdir') =>
  fc.tuple(mount, path).map(([at, where]) =>
    onPath(`${kind} ${where}`, at, where, async (world, parent, vfs) => {
      const victim = parent.node.entries.get(parent.name);
      const result = await same(
        () => world.model[kind](parent.node, parent.name),
        () => vfs[kind](ROOT, world.ino(parent.node), bytesOf(parent.name)),
      );
      if (result === undefined) return;
      world.changed(at, parent.node, victim!);
      await world.observe(at, victim);
    }),
  );

export const renamed = fc
  .tuple(mount, path, path, fc.constantFrom('', '', '', 'noReplace', 'exchange', 'both'))
  .map(([at, where, there, how]) =>
    onPath(`rename ${where} ${there} ${how}`, at, where, async (world, from, vfs) => {
      const to = await world.parentOf(at, there);
      if (to === undefined) return;
      const moved = from.node.entries.get(from.name);
      const options = {
        noReplace: how === 'noReplace' || how === 'both',
        exchange: how === 'exchange' || how === 'both',
      };
      const inos = [world.ino(from.node), world.ino(to.node)] as const;
      const result = await same(
        () => world.model.rename(from.node, from.name, to.node, to.name, options),
        () => vfs.rename(ROOT, inos[0], bytesOf(from.name), inos[1], bytesOf(to.name), options),
      );
      if (result === undefined) return;
      world.changed(at, from.node, to.node, moved!, ...(result.expected === undefined ? [] : [result.expected]));
      await world.observe(at, to.node, moved, result.expected);
    }),
  );

/** What was done in both, unless it was refused in both. */
async function namedAnew(world: World, at: number, node: ModelNode, to: { node: ModelNode; name: string }) {
  const result = await same(
    () => world.model.link(node, to.node, to.name),
    () => world.vfs(at).link(ROOT, world.ino(node), world.ino(to.node), bytesOf(to.name)),
  );
  if (result !== undefined) world.took(at, result.got);
  return result;
}

export const linked = fc.tuple(mount, path, path).map(([at, where, there]) =>
  onMount(`link ${where} ${there}`, at, async (world) => {
    const node = await world.find(at, where);
    const to = node === undefined ? undefined : await world.parentOf(at, there);
    if (node === undefined || to === undefined) return;
    const result = await namedAnew(world, at, node, to);
    if (result === undefined) return;
    world.changed(at, node, to.node);
    world.compare(at, node, result.got.attr);
    await world.observe(at, node, to.node);
  }),
);

/** Also a file without a name, which gets one. */
export const fileLinked = fc.tuple(slotIndex, path).map(([index, there]) =>
  onFile(`link to ${there}`, index, async (world, { mount: at, node }) => {
    const to = await world.parentOf(at, there);
    if (to === undefined) return;
    const result = await namedAnew(world, at, node, to);
    if (result === undefined) return;
    world.changed(at, node, to.node);
    await world.observe(at, to.node);
  }),
);

export const readlink = fc.tuple(mount, path).map(([at, where]) =>
  onFound(`readlink ${where}`, at, where, async (world, node, vfs) => {
    const result = await same(
      () => (node.type === 'symlink' ? node.target : refuse('EINVAL')),
      () => vfs.readlink(ROOT, world.ino(node)),
    );
    if (result !== undefined) equal('target', result.expected, String(Buffer.from(result.got)));
  }),
);

export const listed = fc.tuple(mount, anyPath, fc.integer({ min: 1, max: 3 }), fc.boolean(), fc.nat(9)).map((args) => {
  const [at, where, max, plus, again] = args;
  return onFound(`list ${where} by ${max} ${plus}`, at, where, async (world, node, vfs) => {
    const opened = await same(
      () => void (node.type === 'directory' || refuse('ENOTDIR')),
      () => vfs.opendir(ROOT, world.ino(node)),
    );
    if (opened === undefined) return;
    const { handle } = opened.got;
    const from = async (start: number): Promise<DirItem[]> => {
      const found: DirItem[] = [];
      for (let next = start; ;) {
        const items = await vfs.readdir(ROOT, handle, next, max, plus);
        if (items.length === 0) return found;
        for (const { entry } of items) {
          if (entry === undefined) continue;
          vfs.remember(entry.attr.ino);
          world.took(at, entry);
        }
        found.push(...items);
        next = items.at(-1)!.nextOffset;
      }
    };
    const told = (items: readonly DirItem[]) =>
      items.map((item) => [String(Buffer.from(item.name)), item.type, item.ino]);
    const items = await from(0);
    const expected = [
      ['.', 'directory', world.ino(node)],
      ['..', 'directory', world.ino(node.parent ?? node)],
      ...[...node.entries]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([called, child]) => [called, child.type, world.ino(child)]),
    ];
    equal('entries', expected, told(items));
    for (const { entry, name: called } of items) {
      if (entry !== undefined) world.compare(at, node.entries.get(String(Buffer.from(called)))!, entry.attr);
    }
    const place = again % items.length;
    equal('entries from there on', expected.slice(place + 1), told(await from(items[place]!.nextOffset)));
    vfs.releasedir(handle);
  });
});
