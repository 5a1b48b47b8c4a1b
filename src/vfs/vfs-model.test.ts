/** Random operations on a file against a plain array of bytes: what is read is always what was written. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StaleBlocksError } from '../errors.ts';
import { ROOT_INO } from '../ids.ts';
import { O_APPEND, O_CREAT, O_RDWR } from './handles.ts';
import { name, pattern, readAll, ROOT, TestCluster, turns, type TestMount } from './testing.ts';

const BLOCK = 4096;
const SPACE = 6 * BLOCK;

type Step =
  | { readonly kind: 'write' | 'append'; readonly offset: number; readonly length: number; readonly seed: number }
  | { readonly kind: 'read' | 'punch' | 'allocate'; readonly offset: number; readonly length: number }
  | { readonly kind: 'clone'; readonly offset: number; readonly length: number; readonly to: number }
  | { readonly kind: 'truncate'; readonly size: number }
  | { readonly kind: 'seek'; readonly offset: number }
  | { readonly kind: 'flush' | 'fsync' | 'reopen' | 'remount' | 'wait' };

const offset = fc.nat(SPACE);
const length = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 3 * BLOCK }), fc.constant(BLOCK));
const aligned = fc.nat(5).map((index) => index * BLOCK);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      offset: fc.oneof(offset, aligned),
      length,
      seed: fc.nat(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('append' as const), offset: fc.constant(0), length, seed: fc.nat() }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('read' as const), offset, length }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('punch' as const, 'allocate' as const), offset, length }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('clone' as const), offset, length, to: offset }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('truncate' as const), size: offset }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('seek' as const), offset }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom('flush' as const, 'fsync' as const, 'reopen' as const, 'remount' as const, 'wait' as const),
    }),
  },
);

class Model {
  bytes = Buffer.alloc(0);
  grow(size: number): void {
    if (size > this.bytes.length) this.bytes = Buffer.concat([this.bytes, Buffer.alloc(size - this.bytes.length)]);
  }
  write(at: number, data: Buffer): void {
    this.grow(at + data.length);
    data.copy(this.bytes, at);
  }
  truncate(size: number): void {
    this.bytes = Buffer.from(this.bytes.subarray(0, size));
    this.grow(size);
  }
  punch(at: number, size: number): void {
    this.bytes.fill(0, Math.min(at, this.bytes.length), Math.min(at + size, this.bytes.length));
  }
}

describe('a file under random operations', () => {
  it('reads as a plain array of bytes would', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 50 }), fc.nat(2), async (steps, stale) => {
        const cluster = await TestCluster.start(BLOCK);
        const limits = { dirtyMaxBytes: 4 * BLOCK, readCacheBytes: 4 * BLOCK, inlineMaxBytes: 200 };
        let mount: TestMount = await cluster.mount(limits);
        cluster.blocks.beforePut = () => turns(1);
        const model = new Model();
        let appended = false;
        const made = await mount.vfs.create(ROOT, ROOT_INO, name('f'), 0o644, O_RDWR | O_CREAT);
        const { ino } = made.attr;
        let { handle } = made;
        let appender = (await mount.vfs.open(ROOT, ino, O_RDWR | O_APPEND)).handle;
        let commits = 0;
        const watch = (): void => {
          mount.meta.beforeMutate = (mutation) => {
            if (mutation.op !== 'commit' && mutation.op !== 'clone') return;
            // Without extents (a file is made longer) there is nothing to be stale.
            if (mutation.extents.length === 0) return;
            commits += 1;
            if (stale > 0 && commits % 3 === stale) throw new StaleBlocksError('again');
            for (const extent of mutation.extents) {
              if (extent.kind === 'block')
                expect(cluster.blocks.stored.has(Buffer.from(extent.id).toString('hex'))).toBe(true);
            }
          };
        };
        watch();
        const check = async (at: number, size: number): Promise<void> => {
          const seen = await readAll(mount.vfs, handle, at, size);
          if (!seen.equals(model.bytes.subarray(at, at + size))) {
            throw new Error(`bytes ${at}..${at + size} differ: ${seen.length} of ${model.bytes.length - at}`);
          }
        };
        for (const action of steps) {
          switch (action.kind) {
            case 'write':
            case 'append': {
              const data = pattern(action.length, action.seed);
              const appends = action.kind === 'append';
              const at = appends ? model.bytes.length : action.offset;
              // Not always waited for: the kernel, too, sends the next before the answer. But what is appended and what is
              // written in its place do not wait together, and a caller that waits for neither knows no order.
              const written = mount.vfs.write(ROOT, appends ? appender : handle, action.offset, data);
              model.write(at, data);
              data.fill(0);
              if (action.seed % 3 !== 0 || appends !== appended) await written;
              appended = appends;
              break;
            }
            case 'read':
              await check(action.offset, action.length);
              break;
            case 'truncate':
              await mount.vfs.setattr(ROOT, ino, { sizeBytes: action.size }, handle);
              model.truncate(action.size);
              break;
            case 'punch':
              await mount.vfs.fallocate(ROOT, handle, action.offset, action.length, 3);
              model.punch(action.offset, action.length);
              break;
            case 'allocate':
              await mount.vfs.fallocate(ROOT, handle, action.offset, action.length, 0);
              model.grow(action.offset + action.length);
              break;
            case 'clone': {
              const { offset: from, to } = action;
              const count = Math.max(0, Math.min(action.length, model.bytes.length - from));
              const clone = (done: number): Promise<number> =>
                Promise.resolve(
                  mount.vfs.copyFileRange(ROOT, handle, from + done, handle, to + done, action.length - done),
                );
              if (count > 0 && Math.abs(from - to) < count) {
                await expect(clone(0)).rejects.toMatchObject({ code: 'EINVAL' });
                break;
              }
              let done = 0;
              for (let more = -1; more !== 0 && done < count; done += more) more = await clone(done);
              expect(done).toBe(count);
              if (count > 0) model.write(to, Buffer.from(model.bytes.subarray(from, from + count)));
              break;
            }
            case 'seek': {
              if (action.offset >= model.bytes.length) break;
              const data = await Promise.resolve(mount.vfs.lseek(ROOT, handle, action.offset, 3)).catch(
                () => model.bytes.length,
              );
              expect(model.bytes.subarray(action.offset, data).every((byte) => byte === 0)).toBe(true);
              const hole = await mount.vfs.lseek(ROOT, handle, action.offset, 4);
              expect(hole).toBeGreaterThanOrEqual(action.offset);
              expect(hole).toBeLessThanOrEqual(model.bytes.length);
              break;
            }
            case 'flush':
              await mount.vfs.flush(ROOT, handle, 0n);
              break;
            case 'fsync':
              await mount.vfs.fsync(ROOT, handle, false);
              break;
            case 'wait':
              await cluster.clock.advance(6_000);
              break;
            case 'reopen':
              await mount.vfs.flush(ROOT, handle, 0n);
              mount.vfs.release(handle);
              mount.vfs.release(appender);
              ({ handle } = await mount.vfs.open(ROOT, ino, O_RDWR));
              appender = (await mount.vfs.open(ROOT, ino, O_RDWR | O_APPEND)).handle;
              break;
            case 'remount':
              expect(await mount.vfs.close()).toEqual([]);
              mount = await cluster.mount(limits);
              watch();
              ({ handle } = await mount.vfs.open(ROOT, ino, O_RDWR));
              appender = (await mount.vfs.open(ROOT, ino, O_RDWR | O_APPEND)).handle;
          }
          const { attr } = await mount.vfs.getattr(ROOT, ino, handle);
          expect(attr.sizeBytes).toBe(model.bytes.length);
        }
        await check(0, SPACE * 3);
        // Another mount sees the same after this one's close.
        await mount.vfs.flush(ROOT, handle, 0n);
        // Puts of pieces that a truncation dropped may still be ending.
        await turns();
        expect(mount.vfs.usage().dirtyBytes).toBe(0);
        const other = await cluster.mount();
        const opened = await other.vfs.open(ROOT, ino, O_RDWR);
        expect((await readAll(other.vfs, opened.handle, 0, SPACE * 3)).equals(model.bytes)).toBe(true);
        expect(mount.logged.filter((line) => line.level !== 'debug')).toEqual([]);
        expect(mount.vfs.usage().cachedBytes).toBeLessThanOrEqual(4 * BLOCK);
      }),
      { numRuns: 300 },
    );
  }, 60_000);
});
