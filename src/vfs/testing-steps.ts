/** The steps of vfs-tree.test.ts: each is done by the model and by one of the mounts, and must come out the same. */
import fc from 'fast-check';
import { BLOCK, equal } from './testing-world.ts';
import {
  chmodListed,
  fsetattr,
  getlist,
  getxattr,
  listxattr,
  removexattr,
  setattr,
  setlist,
  setxattr,
} from './testing-steps-attributes.ts';
import {
  closed,
  copied,
  created,
  fallocated,
  flushed,
  lock,
  opened,
  read,
  sought,
  tmpfile,
  written,
} from './testing-steps-files.ts';
import { badSymlink, fileLinked, linked, listed, made, readlink, removed, renamed } from './testing-steps-names.ts';
import type { Step } from './testing-step.ts';
import { mount, onMount } from './testing-step.ts';
import { ROOT } from './testing.ts';

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
