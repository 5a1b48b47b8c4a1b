/** What a step of vfs-tree.test.ts is, and the parts that steps are put together of. */
import fc from 'fast-check';
import { O_APPEND, O_DSYNC, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } from './handles.ts';
import type { ModelNode } from './testing-model.ts';
import type { Slot } from './testing-world.ts';
import { CALLERS, BLOCK, SPACE, type World } from './testing-world.ts';

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

export const mount = fc.nat(1);
export const caller = fc.constantFrom(...CALLERS);
const name = fc.oneof(
  { weight: 30, arbitrary: fc.constantFrom('a', 'a', 'b', 'c') },
  { weight: 1, arbitrary: fc.constantFrom('n'.repeat(255), 'm'.repeat(256)) },
);
export const path = fc.oneof(
  { weight: 8, arbitrary: name },
  { weight: 3, arbitrary: fc.tuple(name, name).map((names) => names.join('/')) },
  { weight: 1, arbitrary: fc.tuple(name, name, name).map((names) => names.join('/')) },
);
export const anyPath = fc.oneof({ weight: 9, arbitrary: path }, { weight: 1, arbitrary: fc.constant('') });
export const mode = fc.constantFrom(0o644, 0o600, 0o755, 0o4755, 0o2755, 0o2645, 0o1777, 0o6777, 0);
export const umask = fc.constantFrom(0, 0o22, 0o77);
export const offset = fc.oneof(
  fc.nat(SPACE),
  fc.nat(5).map((index) => index * BLOCK),
);
export const length = fc.oneof(
  fc.integer({ min: 1, max: 300 }),
  fc.integer({ min: 0, max: 2 * BLOCK }),
  fc.constant(BLOCK),
);
const access = fc.constantFrom(O_RDONLY, O_WRONLY, O_RDWR, O_RDWR);
export const flags = fc
  .tuple(access, fc.subarray([O_TRUNC, O_APPEND, O_DSYNC]), fc.nat(2))
  .map(([base, more, chance]) => (chance === 0 ? more : []).reduce((all, flag) => all | flag, base));
export const slotIndex = fc.nat(7);

export function onMount(
  text: string,
  at: number,
  work: (world: World, vfs: ReturnType<World['vfs']>) => Promise<void>,
): Step {
  return new Step(`${at}: ${text}`, false, async (world) => {
    await world.begin(at);
    await work(world, world.vfs(at));
  });
}

export function onPath(
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

export function onFound(
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

export function onFile(
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
