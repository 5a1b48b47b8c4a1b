/** The steps of vfs-tree.test.ts: each is done by the model and by one of the mounts, and must come out the same. */
import fc from 'fast-check';
import type { FileType } from '../meta/types.ts';
import { O_APPEND, O_CREAT, O_DSYNC, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } from './handles.ts';
import { LOCK_END_MAX, type DirItem } from './ops.ts';
import { LOCKED_BYTES, refuse, type ModelList, type ModelNode, type ModelSet } from './testing-model.ts';
import type { World } from './testing-world.ts';
import { attributeNames, BLOCK, CALLERS, encodedList, equal, same, Slot, SPACE } from './testing-world.ts';
import { name as bytesOf, pattern, readAll, ROOT } from './testing.ts';

export class Step implements fc.AsyncCommand<World, World> {
  readonly #text: string;
  readonly #needsFile: boolean;
  readonly #work: (world: World) => Promise<void>;

  constructor(text: string, needsFile: boolean, work: (world: World) => Promise<void>) {
    this.#text = text;
    this.#needsFile = needsFile;
    this.#work = work;
  }
  check(world: Readonly<World>): boolean {
    return !this.#needsFile || world.slots.length > 0;
  }
  async run(_model: World, world: World): Promise<void> {
    await this.#work(world);
  }
  toString(): string {
    return this.#text;
  }
}

type Parent = { readonly node: ModelNode; readonly name: string };

const mount = fc.nat(1);
const caller = fc.constantFrom(...CALLERS);
const name = fc.oneof(
  { weight: 30, arbitrary: fc.constantFrom('a', 'a', 'b', 'c') },
  { weight: 1, arbitrary: fc.constantFrom('n'.repeat(255), 'm'.repeat(256)) },
);
const path = fc.oneof(
  { weight: 8, arbitrary: name },
  { weight: 3, arbitrary: fc.tuple(name, name).map((names) => names.join('/')) },
  { weight: 1, arbitrary: fc.tuple(name, name, name).map((names) => names.join('/')) },
);
const anyPath = fc.oneof({ weight: 9, arbitrary: path }, { weight: 1, arbitrary: fc.constant('') });
const mode = fc.constantFrom(0o644, 0o600, 0o755, 0o4755, 0o2755, 0o2645, 0o1777, 0o6777, 0);
const umask = fc.constantFrom(0, 0o22, 0o77);
const offset = fc.oneof(
  fc.nat(SPACE),
  fc.nat(5).map((index) => index * BLOCK),
);
const length = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 0, max: 2 * BLOCK }), fc.constant(BLOCK));
const access = fc.constantFrom(O_RDONLY, O_WRONLY, O_RDWR, O_RDWR);
const flags = fc
  .tuple(access, fc.subarray([O_TRUNC, O_APPEND, O_DSYNC]), fc.nat(2))
  .map(([base, more, chance]) => (chance === 0 ? more : []).reduce((all, flag) => all | flag, base));
const slotIndex = fc.nat(7);

function onMount(text: string, at: number, work: (world: World, vfs: ReturnType<World['vfs']>) => Promise<void>): Step {
  return new Step(`${at}: ${text}`, false, async (world) => {
    await world.begin(at);
    await work(world, world.vfs(at));
  });
}

function onPath(
  text: string,
  at: number,
  where: string,
  work: (world: World, parent: Parent, vfs: ReturnType<World['vfs']>) => Promise<void>,
): Step {
  return onMount(text, at, async (world, vfs) => {
    const parent = await world.parentOf(at, where);
    if (parent === undefined) return;
    await work(world, parent, vfs);
    await world.observe(at, parent.node);
  });
}

function onFound(
  text: string,
  at: number,
  where: string,
  work: (world: World, node: ModelNode, vfs: ReturnType<World['vfs']>) => Promise<void>,
): Step {
  return onMount(text, at, async (world, vfs) => {
    const node = await world.find(at, where);
    if (node === undefined) return;
    await world.freshen(at, node);
    await work(world, node, vfs);
    await world.observe(at, node);
  });
}

function onFile(
  text: string,
  index: number,
  work: (world: World, slot: Slot, vfs: ReturnType<World['vfs']>) => Promise<void>,
): Step {
  return new Step(`file ${index}: ${text}`, true, async (world) => {
    const slot = world.slots[index % world.slots.length]!;
    await world.begin(slot.mount);
    await world.freshen(slot.mount, slot.node);
    await work(world, slot, world.vfs(slot.mount));
    await world.observe(slot.mount, slot.node);
  });
}

// Names

const made = (type: FileType) =>
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

const badSymlink = fc.tuple(mount, path, fc.constantFrom(0, 4096)).map(([at, where, size]) =>
  onPath(`symlink ${where} of ${size}`, at, where, async (world, parent, vfs) => {
    const target = 'x'.repeat(size);
    await same(
      () => void world.model.make(ROOT, parent.node, parent.name, { type: 'symlink', mode: 0o777, umask: 0 }, target),
      () => vfs.symlink(ROOT, world.ino(parent.node), bytesOf(parent.name), bytesOf(target)),
    );
  }),
);

const removed = (kind: 'unlink' | 'rmdir') =>
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

const renamed = fc
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

const linked = fc.tuple(mount, path, path).map(([at, where, there]) =>
  onMount(`link ${where} ${there}`, at, async (world, vfs) => {
    const node = await world.find(at, where);
    const to = node === undefined ? undefined : await world.parentOf(at, there);
    if (node === undefined || to === undefined) return;
    const result = await same(
      () => world.model.link(node, to.node, to.name),
      () => vfs.link(ROOT, world.ino(node), world.ino(to.node), bytesOf(to.name)),
    );
    if (result === undefined) return;
    world.took(at, result.got);
    world.changed(at, node, to.node);
    world.compare(at, node, result.got.attr);
    await world.observe(at, node, to.node);
  }),
);

/** Also a file without a name, which gets one. */
const fileLinked = fc.tuple(slotIndex, path).map(([index, there]) =>
  onFile(`link to ${there}`, index, async (world, { mount: at, node }, vfs) => {
    const to = await world.parentOf(at, there);
    if (to === undefined) return;
    const result = await same(
      () => world.model.link(node, to.node, to.name),
      () => vfs.link(ROOT, world.ino(node), world.ino(to.node), bytesOf(to.name)),
    );
    if (result === undefined) return;
    world.took(at, result.got);
    world.changed(at, node, to.node);
    await world.observe(at, to.node);
  }),
);

const readlink = fc.tuple(mount, path).map(([at, where]) =>
  onFound(`readlink ${where}`, at, where, async (world, node, vfs) => {
    const result = await same(
      () => (node.type === 'symlink' ? node.target : refuse('EINVAL')),
      () => vfs.readlink(ROOT, world.ino(node)),
    );
    if (result !== undefined) equal('target', result.expected, String(Buffer.from(result.got)));
  }),
);

const listed = fc.tuple(mount, anyPath, fc.integer({ min: 1, max: 3 }), fc.boolean(), fc.nat(9)).map((args) => {
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

// Open and close

const created = fc.tuple(mount, caller, path, mode, umask, flags, fc.boolean()).map((args) => {
  const [at, who, where, bits, mask, how, exclusive] = args;
  const all = how | O_CREAT | (exclusive ? O_EXCL : 0);
  return onPath(
    `create ${where} ${bits.toString(8)} ${all.toString(8)} by ${who.uid}`,
    at,
    where,
    async (world, parent, vfs) => {
      const before = exclusive ? undefined : parent.node.entries.get(parent.name);
      if (before?.type === 'file') await world.freshen(at, before);
      const isNew = !parent.node.entries.has(parent.name);
      const result = await same(
        () => {
          const found = exclusive ? undefined : world.model.existing(parent.node, parent.name);
          if (found !== undefined && (how & O_TRUNC) !== 0) world.model.empty(who, found);
          return found ?? world.model.make(who, parent.node, parent.name, { type: 'file', mode: bits, umask: mask });
        },
        () => vfs.create(who, world.ino(parent.node), bytesOf(parent.name), bits, all, mask),
      );
      if (result === undefined) return;
      const { expected: node, got } = result;
      world.took(at, got);
      world.slots.push(new Slot(at, node, got.handle, all));
      if (isNew) world.changed(at, parent.node);
      if (isNew || (how & O_TRUNC) !== 0) world.changed(at, node);
      world.compare(at, node, got.attr);
      // Nothing was asked about what it holds if it was there.
      if (!isNew) await world.freshen(at, node);
    },
  );
});

const tmpfile = fc.tuple(mount, caller, anyPath, mode, umask).map(([at, who, where, bits, mask]) =>
  onMount(`tmpfile in ${where} ${bits.toString(8)} by ${who.uid}`, at, async (world, vfs) => {
    const parent = await world.find(at, where);
    if (parent === undefined) return;
    const result = await same(
      () => world.model.makeNameless(who, parent, bits, mask),
      () => vfs.tmpfile(who, world.ino(parent), bits, O_RDWR, mask),
    );
    if (result === undefined) return;
    world.took(at, result.got);
    world.slots.push(new Slot(at, result.expected, result.got.handle, O_RDWR));
    world.compare(at, result.expected, result.got.attr);
    await world.observe(at, parent);
  }),
);

const opened = fc.tuple(mount, caller, path, flags).map(([at, who, where, how]) =>
  onFound(`open ${where} ${how.toString(8)} by ${who.uid}`, at, where, async (world, node, vfs) => {
    const result = await same(
      () => {
        if (node.type === 'directory') refuse('EISDIR');
        if (node.type === 'symlink') refuse('ELOOP');
        if (node.type !== 'file') refuse('ENXIO');
        if ((how & O_TRUNC) !== 0) world.model.empty(who, node);
      },
      () => vfs.open(who, world.ino(node), how),
    );
    if (result === undefined) return;
    world.slots.push(new Slot(at, node, result.got.handle, how));
    if ((how & O_TRUNC) !== 0) world.changed(at, node);
  }),
);

const closed = fc
  .tuple(slotIndex, fc.bigInt(1n, 2n))
  .map(([index, owner]) => onFile(`close by ${owner}`, index, (world, slot) => world.close(slot, owner)));

const flushed = fc.tuple(slotIndex, fc.bigInt(0n, 2n), fc.boolean()).map(([index, owner, toDisk]) =>
  onFile(toDisk ? 'fsync' : `flush by ${owner}`, index, async (world, slot, vfs) => {
    if (!toDisk) return world.flush(slot, owner);
    await vfs.fsync(ROOT, slot.handle, owner === 0n);
    world.flushed(slot.mount, slot.node);
  }),
);

// Content

const written = fc.tuple(slotIndex, offset, length, fc.nat(99), fc.integer({ min: 0, max: 40 })).map((args) => {
  const [index, place, size, seed, chance] = args;
  const at = chance === 0 ? Number.MAX_SAFE_INTEGER : place;
  return onFile(`write ${at}+${size}`, index, async (world, slot, vfs) => {
    const data = pattern(size, seed);
    const result = await same(
      () => {
        if (!slot.canWrite) refuse('EBADF');
        return world.model.write(slot.node, slot.appends ? slot.node.bytes.length : at, data);
      },
      () => vfs.write(ROOT, slot.handle, at, data),
    );
    if (result === undefined) return;
    equal('written', result.expected, result.got);
    if (size > 0) world.written(slot);
  });
});

const read = fc.tuple(slotIndex, offset, length).map(([index, place, size]) =>
  onFile(`read ${place}+${size}`, index, async (_world, slot, vfs) => {
    const result = await same(
      () => (slot.canRead ? slot.node.bytes.subarray(place, place + size) : refuse('EBADF')),
      () => readAll(vfs, slot.handle, place, size),
    );
    if (result !== undefined && !result.expected.equals(result.got)) throw new Error('other bytes were read');
  }),
);

const fallocated = fc
  .tuple(slotIndex, offset, length, fc.constantFrom(0, 1, 3, 3, 16, 17, 2, 8, 32))
  .map(([index, place, size, how]) =>
    onFile(`fallocate ${how} ${place}+${size}`, index, async (world, slot, vfs) => {
      const result = await same(
        () => (slot.canWrite ? world.model.fallocate(slot.node, place, size, how) : refuse('EBADF')),
        () => vfs.fallocate(ROOT, slot.handle, place, size, how),
      );
      if (result !== undefined) world.changed(slot.mount, slot.node);
    }),
  );

const sought = fc.tuple(slotIndex, offset, fc.constantFrom(3, 4)).map(([index, place, whence]) =>
  onFile(`lseek ${place} ${whence === 3 ? 'DATA' : 'HOLE'}`, index, async (world, slot, vfs) => {
    const result = await same(
      () => world.model.lseek(slot.node, place, whence),
      () => vfs.lseek(ROOT, slot.handle, place, whence),
    );
    if (result !== undefined) equal('offset', result.expected, result.got);
  }),
);

const copied = fc.tuple(slotIndex, offset, slotIndex, offset, length).map(([index, from, otherIndex, to, size]) =>
  onFile(`copy ${from}+${size} to file ${otherIndex} ${to}`, index, async (world, source, vfs) => {
    const slots = world.slots.filter((slot) => slot.mount === source.mount);
    const target = slots[otherIndex % slots.length]!;
    await world.freshen(target.mount, target.node);
    // It may grow by what is copied to its end: as much as is there now.
    const count = Math.max(0, Math.min(size, source.node.bytes.length - from));
    const result = await same(
      () => {
        if (!source.canRead || !target.canWrite || target.appends) refuse('EBADF');
        return world.model.copy(source.node, from, target.node, to, size);
      },
      async () => {
        let done = 0;
        for (let more = -1; more !== 0 && done < count; done += more) {
          more = await vfs.copyFileRange(ROOT, source.handle, from + done, target.handle, to + done, count - done);
        }
        if (count === 0) done = await vfs.copyFileRange(ROOT, source.handle, from, target.handle, to, size);
        return done;
      },
    );
    if (result === undefined) return;
    equal('copied', result.expected, result.got);
    if (result.got > 0) world.changed(target.mount, target.node);
    await world.observe(target.mount, target.node);
  }),
);

// Attributes

const time = fc.constantFrom('now' as const, 1_234_567_890_123_456_789n, -5_000_000_001n, 4_000_000_000_000_000_001n);
const attributes = {
  mode,
  uid: fc.constantFrom(0, 1000),
  gid: fc.constantFrom(0, 1000, 2000),
  sizeBytes: fc.oneof({ weight: 9, arbitrary: offset }, { weight: 1, arbitrary: fc.constantFrom(0, -1) }),
  atimeNs: time,
  mtimeNs: time,
};
/** One, or any of them at once. */
const set: fc.Arbitrary<ModelSet> = fc.oneof(
  ...Object.entries(attributes).map(([key, value]) => (value as fc.Arbitrary<unknown>).map((one) => ({ [key]: one }))),
  fc.record(attributes, { requiredKeys: [] }),
);
const told = (value: object): string =>
  Object.entries(value)
    .map(([key, one]) => `${key}=${String(one)}`)
    .join(' ');

async function setAttributes(world: World, at: number, node: ModelNode, values: ModelSet, handle?: Slot['handle']) {
  const result = await same(
    () => world.model.setattr(node, values),
    () => world.vfs(at).setattr(ROOT, world.ino(node), values, handle),
  );
  if (result === undefined) return;
  world.changed(at, node);
  world.compare(at, node, result.got.attr);
}

const setattr = fc
  .tuple(mount, path, set)
  .map(([at, where, values]) =>
    onFound(`setattr ${where} ${told(values)}`, at, where, (world, node) => setAttributes(world, at, node, values)),
  );

const fsetattr = fc
  .tuple(slotIndex, set)
  .map(([index, values]) =>
    onFile(`setattr ${told(values)}`, index, (world, { mount: at, node, handle }) =>
      setAttributes(world, at, node, values, handle),
    ),
  );

const attribute = fc.constantFrom(
  'user.a',
  'user.b',
  'trusted.t',
  'security.s',
  'bad',
  'user.',
  `user.${'x'.repeat(251)}`,
);

const setxattr = fc
  .tuple(mount, path, attribute, fc.constantFrom('', 'v', 'w'.repeat(300)), fc.constantFrom('any', 'create', 'replace'))
  .map(([at, where, key, value, how]) =>
    onFound(`setxattr ${where} ${key.slice(0, 20)} ${value.length} ${how}`, at, where, async (world, node, vfs) => {
      const way = how;
      const result = await same(
        () => world.model.setxattr(node, key, value, way),
        () => vfs.setxattr(ROOT, world.ino(node), bytesOf(key), bytesOf(value), way),
      );
      if (result !== undefined) world.changed(at, node);
    }),
  );

const getxattr = fc.tuple(mount, path, attribute).map(([at, where, key]) =>
  onFound(`getxattr ${where} ${key.slice(0, 20)}`, at, where, async (world, node, vfs) => {
    const result = await same(
      () => world.model.getxattr(node, key),
      () => vfs.getxattr(ROOT, world.ino(node), bytesOf(key)),
    );
    if (result !== undefined) equal('value', result.expected, String(Buffer.from(result.got)));
  }),
);

const removexattr = fc.tuple(mount, path, attribute).map(([at, where, key]) =>
  onFound(`removexattr ${where} ${key.slice(0, 20)}`, at, where, async (world, node, vfs) => {
    const result = await same(
      () => world.model.removexattr(node, key),
      () => vfs.removexattr(ROOT, world.ino(node), bytesOf(key)),
    );
    if (result !== undefined) world.changed(at, node);
  }),
);

const listxattr = fc.tuple(mount, caller, path).map(([at, who, where]) =>
  onFound(`listxattr ${where} by ${who.uid}`, at, where, async (world, node, vfs) => {
    const names = await vfs.listxattr(who, world.ino(node));
    const expected = attributeNames(node).filter((key) => who.uid === 0 || !key.startsWith('trusted.'));
    equal('names', expected, names.map((key) => String(Buffer.from(key))).sort());
  }),
);

// Access control lists

const LISTS: readonly (ModelList | 'spoilt' | undefined)[] = [
  { user: 7, group: 5, other: 1 },
  { user: 6, named: { uid: 7, permissions: 7 }, group: 4, mask: 5, other: 4 },
  { user: 7, group: 7, mask: 3, other: 0 },
  { user: 7, named: { uid: 1000, permissions: 0 }, group: 0, mask: 7, other: 7 },
  'spoilt',
  undefined,
];

const kind = fc.constantFrom('access' as const, 'defaults' as const, 'defaults' as const);
const listName = (which: 'access' | 'defaults') =>
  bytesOf(`system.posix_acl_${which === 'access' ? 'access' : 'default'}`);

const setlist = fc.tuple(mount, path, kind, fc.constantFrom(...LISTS), fc.boolean(), fc.boolean()).map((args) => {
  const [at, where, which, list, killSetgid, byRemoval] = args;
  const removes = byRemoval && list === undefined;
  const text = `setlist ${where} ${which} ${JSON.stringify(list)} ${killSetgid}`;
  return onFound(text, at, where, async (world, node, vfs) => {
    const [ino, key] = [world.ino(node), listName(which)];
    const result = await same(
      () => world.model.setList(node, which, list, killSetgid),
      () =>
        removes ? vfs.removexattr(ROOT, ino, key) : vfs.setxattr(ROOT, ino, key, encodedList(list), 'any', killSetgid),
    );
    if (result !== undefined) world.changed(at, node);
  });
});

async function compareList(world: World, at: number, node: ModelNode, which: 'access' | 'defaults'): Promise<void> {
  const result = await same(
    () => node[which] ?? refuse('ENODATA'),
    () => world.vfs(at).getxattr(ROOT, world.ino(node), listName(which)),
  );
  if (result !== undefined) equal('list', [...encodedList(result.expected)], [...result.got]);
}

const getlist = fc
  .tuple(mount, path, kind)
  .map(([at, where, which]) =>
    onFound(`getlist ${where} ${which}`, at, where, (world, node) => compareList(world, at, node, which)),
  );

/** Of what has a list: its mask and entries follow the mode. By chance the two rarely come together. */
const chmodListed = fc.tuple(mount, path, fc.nat(LISTS.length - 3), mode).map(([at, where, index, bits]) =>
  onFound(`setlist ${where} access ${index}, mode=${bits.toString(8)}`, at, where, async (world, node, vfs) => {
    const list = LISTS[index];
    const result = await same(
      () => world.model.setList(node, 'access', list, false),
      () => vfs.setxattr(ROOT, world.ino(node), listName('access'), encodedList(list), 'any', false),
    );
    if (result !== undefined) world.changed(at, node);
    await setAttributes(world, at, node, { mode: bits });
    await compareList(world, at, node, 'access');
  }),
);

// Locks

const lock = fc
  .record({
    index: slotIndex,
    kind: fc.constantFrom('posix' as const, 'posix' as const, 'flock' as const),
    owner: fc.bigInt(1n, 2n),
    type: fc.constantFrom('read' as const, 'write' as const, 'unlock' as const),
    range: fc.tuple(fc.nat(LOCKED_BYTES - 1), fc.nat(LOCKED_BYTES - 1)),
    onlyAsks: fc.boolean(),
  })
  .map(({ index, kind: which, owner, type, range, onlyAsks }) => {
    const isWhole = which === 'flock';
    const start = isWhole ? 0 : Math.min(...range);
    const end = isWhole ? LOCKED_BYTES - 1 : Math.max(...range);
    const asks = onlyAsks && type !== 'unlock';
    return onFile(
      `${asks ? 'getlk' : 'setlk'} ${which} ${owner} ${type} ${start}-${end}`,
      index,
      async (world, slot, vfs) => {
        const { mount: at, node, handle } = slot;
        const wanted = { type, start, end: end === LOCKED_BYTES - 1 ? LOCK_END_MAX : end, pid: 5 };
        const who = `${at}-${owner}`;
        if (asks) {
          const found = await vfs.getlk(ROOT, handle, { kind: which, owner }, wanted);
          equal('is free', !world.model.conflicts(node, which, who, type, start, end), found.type === 'unlock');
          return;
        }
        await same(
          () => world.model.lock(node, which, who, type, start, end),
          () => vfs.setlk(ROOT, handle, { kind: which, owner }, wanted, false),
        );
        world.askedForLock(slot, which, who, type === 'unlock');
      },
    );
  });

// The mounts

const statfs = mount.map((at) =>
  onMount('statfs', at, async (world, vfs) => {
    const found = await vfs.statfs(ROOT);
    equal('block size', BLOCK, found.blockSizeBytes);
    if (found.freeBytes > found.totalBytes || found.freeFileCount >= found.fileCount) throw new Error('more is free');
    await world.observe(at, world.model.root);
  }),
);
const forgotten = mount.map((at) => onMount('forget', at, async (world) => world.forgetAll(at)));
const remounted = mount.map((at) => onMount('remount', at, (world) => world.remount(at)));
const waited = mount.map((at) => onMount('wait', at, (world) => world.wait()));

const weighted: readonly (readonly [number, fc.Arbitrary<Step>])[] = [
  ...(['directory', 'file', 'symlink', 'fifo', 'char'] as const).map(
    (type) => [type === 'directory' ? 6 : 1, made(type)] as const,
  ),
  ...[[1, badSymlink] as const, [5, removed('unlink')] as const, [2, removed('rmdir')] as const],
  ...[[6, renamed] as const, [2, linked] as const, [2, fileLinked] as const, [1, readlink] as const],
  ...[[3, listed] as const, [8, created] as const, [2, tmpfile] as const, [4, opened] as const],
  ...[[4, closed] as const, [3, flushed] as const, [12, written] as const, [6, read] as const],
  ...[[4, fallocated] as const, [4, sought] as const, [4, copied] as const],
  ...[[4, setattr] as const, [4, fsetattr] as const],
  ...[[2, setxattr] as const, [1, getxattr] as const, [1, removexattr] as const, [1, listxattr] as const],
  ...[[4, setlist] as const, [2, getlist] as const, [1, chmodListed] as const, [5, lock] as const],
  ...[[1, statfs] as const, [1, forgotten] as const, [1, remounted] as const, [1, waited] as const],
];

/** For fc.commands, which takes each of a list as often as any other. */
export const STEPS: fc.Arbitrary<Step>[] = [
  fc.oneof(...weighted.map(([weight, arbitrary]) => ({ weight, arbitrary }))),
];
