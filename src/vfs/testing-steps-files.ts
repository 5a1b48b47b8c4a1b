/** Steps of vfs-tree.test.ts on open files: their content and their locks. */
import fc from 'fast-check';
import { O_CREAT, O_EXCL, O_RDWR, O_TRUNC } from './handles.ts';
import { LOCK_END_MAX } from './ops.ts';
import { LOCKED_BYTES, refuse } from './testing-model.ts';
import { equal, same, Slot } from './testing-world.ts';
import {
  anyPath,
  caller,
  flags,
  length,
  mode,
  mount,
  offset,
  onFile,
  onFound,
  onMount,
  onPath,
  path,
  slotIndex,
  umask,
} from './testing-step.ts';
import { name as bytesOf, pattern, readAll, ROOT } from './testing.ts';

// Open and close

export const created = fc.tuple(mount, caller, path, mode, umask, flags, fc.boolean()).map((args) => {
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

export const tmpfile = fc.tuple(mount, caller, anyPath, mode, umask).map(([at, who, where, bits, mask]) =>
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

export const opened = fc.tuple(mount, caller, path, flags).map(([at, who, where, how]) =>
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

export const closed = fc
  .tuple(slotIndex, fc.bigInt(1n, 2n))
  .map(([index, owner]) => onFile(`close by ${owner}`, index, (world, slot) => world.close(slot, owner)));

export const flushed = fc.tuple(slotIndex, fc.bigInt(0n, 2n), fc.boolean()).map(([index, owner, toDisk]) =>
  onFile(toDisk ? 'fsync' : `flush by ${owner}`, index, async (world, slot, vfs) => {
    if (!toDisk) return world.flush(slot, owner);
    await vfs.fsync(ROOT, slot.handle, owner === 0n);
    world.flushed(slot.mount, slot.node);
  }),
);

// Content

export const written = fc.tuple(slotIndex, offset, length, fc.nat(99), fc.integer({ min: 0, max: 40 })).map((args) => {
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

export const read = fc.tuple(slotIndex, offset, length).map(([index, place, size]) =>
  onFile(`read ${place}+${size}`, index, async (_world, slot, vfs) => {
    const result = await same(
      () => (slot.canRead ? slot.node.bytes.subarray(place, place + size) : refuse('EBADF')),
      () => readAll(vfs, slot.handle, place, size),
    );
    if (result !== undefined && !result.expected.equals(result.got)) throw new Error('other bytes were read');
  }),
);

export const fallocated = fc
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

export const sought = fc.tuple(slotIndex, offset, fc.constantFrom(3, 4)).map(([index, place, whence]) =>
  onFile(`lseek ${place} ${whence === 3 ? 'DATA' : 'HOLE'}`, index, async (world, slot, vfs) => {
    const result = await same(
      () => world.model.lseek(slot.node, place, whence),
      () => vfs.lseek(ROOT, slot.handle, place, whence),
    );
    if (result !== undefined) equal('offset', result.expected, result.got);
  }),
);

export const copied = fc
  .tuple(slotIndex, offset, slotIndex, offset, length)
  .map(([index, from, otherIndex, to, size]) =>
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

// Locks

export const lock = fc
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
