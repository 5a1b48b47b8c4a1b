/** Steps of vfs-tree.test.ts on attributes, extended ones and access control lists. */
import fc from 'fast-check';
import { refuse, type ModelList, type ModelNode, type ModelSet } from './testing-model.ts';
import type { Slot } from './testing-world.ts';
import { attributeNames, encodedList, equal, same, type World } from './testing-world.ts';
import { caller, mode, mount, offset, onFile, onFound, path, slotIndex } from './testing-step.ts';
import { name as bytesOf, ROOT } from './testing.ts';

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

async function setAttributes(world: World, at: number, node: ModelNode, values: ModelSet, slot?: Slot) {
  const result = await same(
    () => {
      const mayCut = values.sizeBytes === undefined || slot === undefined || slot.canWrite;
      return mayCut ? world.model.setattr(node, values) : refuse('EINVAL');
    },
    () => world.vfs(at).setattr(ROOT, world.ino(node), values, slot?.handle),
  );
  if (result === undefined) return;
  world.changed(at, node);
  world.compare(at, node, result.got.attr);
}

export const setattr = fc
  .tuple(mount, path, set)
  .map(([at, where, values]) =>
    onFound(`setattr ${where} ${told(values)}`, at, where, (world, node) => setAttributes(world, at, node, values)),
  );

export const fsetattr = fc
  .tuple(slotIndex, set)
  .map(([index, values]) =>
    onFile(`setattr ${told(values)}`, index, (world, slot) =>
      setAttributes(world, slot.mount, slot.node, values, slot),
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

export const setxattr = fc
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

export const getxattr = fc.tuple(mount, path, attribute).map(([at, where, key]) =>
  onFound(`getxattr ${where} ${key.slice(0, 20)}`, at, where, async (world, node, vfs) => {
    const result = await same(
      () => world.model.getxattr(node, key),
      () => vfs.getxattr(ROOT, world.ino(node), bytesOf(key)),
    );
    if (result !== undefined) equal('value', result.expected, String(Buffer.from(result.got)));
  }),
);

export const removexattr = fc.tuple(mount, path, attribute).map(([at, where, key]) =>
  onFound(`removexattr ${where} ${key.slice(0, 20)}`, at, where, async (world, node, vfs) => {
    const result = await same(
      () => world.model.removexattr(node, key),
      () => vfs.removexattr(ROOT, world.ino(node), bytesOf(key)),
    );
    if (result !== undefined) world.changed(at, node);
  }),
);

export const listxattr = fc.tuple(mount, caller, path).map(([at, who, where]) =>
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

export const setlist = fc
  .tuple(mount, path, kind, fc.constantFrom(...LISTS), fc.boolean(), fc.boolean())
  .map((args) => {
    const [at, where, which, list, killSetgid, byRemoval] = args;
    const removes = byRemoval && list === undefined;
    const text = `setlist ${where} ${which} ${JSON.stringify(list)} ${killSetgid}`;
    return onFound(text, at, where, async (world, node, vfs) => {
      const [ino, key] = [world.ino(node), listName(which)];
      const result = await same(
        () => world.model.setList(node, which, list, killSetgid),
        () =>
          removes
            ? vfs.removexattr(ROOT, ino, key)
            : vfs.setxattr(ROOT, ino, key, encodedList(list), 'any', killSetgid),
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

export const getlist = fc
  .tuple(mount, path, kind)
  .map(([at, where, which]) =>
    onFound(`getlist ${where} ${which}`, at, where, (world, node) => compareList(world, at, node, which)),
  );

/** Of what has a list: its mask and entries follow the mode. By chance the two rarely come together. */
export const chmodListed = fc.tuple(mount, path, fc.nat(LISTS.length - 3), mode).map(([at, where, index, bits]) =>
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
