import { beforeEach, describe, expect, it } from 'vitest';
import type { Ino, SessionId } from '../ids.ts';
import { CALLED_MS, LockQueue, WAITER_GONE_MS } from './lock-queue.ts';
import { withRequest, type HeldLock, type LockRequest } from './locks.ts';

const FILE = 2 as Ino;
const OTHER = 3 as Ino;

/** A queue over locks that change when told, and a clock that moves when told. */
class World {
  readonly held = new Map<Ino, HeldLock[]>();
  nowMs = 0;
  readonly called: string[] = [];
  readonly queue = new LockQueue({ locksOf: (ino) => this.held.get(ino) ?? [], nowMs: () => this.nowMs });

  lock(owner: bigint, type: LockRequest['type'], ino = FILE, kind: LockRequest['kind'] = 'posix'): void {
    this.held.set(ino, withRequest(this.held.get(ino) ?? [], request(owner, type, kind)));
    this.queue.relocked(ino);
  }
  wait(owner: bigint, type: LockRequest['type'], ino = FILE, kind: LockRequest['kind'] = 'posix'): string {
    return this.queue.wait(ino, request(owner, type, kind), () => this.called.push(`${type} ${owner}`));
  }
}

function request(owner: bigint, type: LockRequest['type'], kind: LockRequest['kind']): LockRequest {
  return { session: 'ab'.repeat(16) as SessionId, owner, kind, type, pid: 1, start: 0, end: 9 };
}

let world: World;
beforeEach(() => (world = new World()));

describe('who waits', () => {
  it('is called when the lock may be had, one writer at a time, in the order of arrival', () => {
    world.lock(1n, 'write');
    expect([world.wait(2n, 'write'), world.wait(3n, 'write')]).toEqual(['held', 'held']);
    expect(world.called).toEqual([]);
    world.lock(1n, 'unlock');
    expect(world.called).toEqual(['write 2']);
    world.lock(2n, 'write');
    expect(world.called).toEqual(['write 2']);
    world.lock(2n, 'unlock');
    expect(world.called).toEqual(['write 2', 'write 3']);
  });

  it('is called together with others if they can have it together', () => {
    world.lock(1n, 'write');
    world.wait(2n, 'read');
    world.wait(3n, 'write');
    world.wait(4n, 'read');
    world.lock(1n, 'unlock');
    expect(world.called).toEqual(['read 2', 'read 4']);
  });

  it('loses its turn when it does not come, and its place when it does not ask again', () => {
    world.lock(1n, 'write');
    world.wait(2n, 'write');
    world.wait(3n, 'write');
    world.lock(1n, 'unlock');
    world.nowMs += CALLED_MS;
    world.queue.tick();
    expect(world.called).toEqual(['write 2', 'write 3']);
    world.nowMs += CALLED_MS;
    world.queue.tick();
    expect(world.queue.waiterCount).toBe(0);

    world.lock(1n, 'write');
    world.wait(2n, 'write');
    world.queue.pause(FILE, request(2n, 'write', 'posix'));
    world.nowMs += WAITER_GONE_MS - 1;
    world.queue.tick();
    expect(world.queue.waiterCount).toBe(1);
    world.nowMs += 1;
    world.queue.tick();
    expect(world.queue.waiterCount).toBe(0);
  });

  it('keeps its place over a pause', () => {
    world.lock(1n, 'write');
    world.wait(2n, 'write');
    world.wait(3n, 'write');
    world.queue.pause(FILE, request(2n, 'write', 'posix'));
    expect(world.wait(2n, 'write')).toBe('held');
    world.lock(1n, 'unlock');
    expect(world.called).toEqual(['write 2']);
  });

  it('is called also when an earlier question for the same lock ends, of a connection that broke or of another thread', () => {
    world.lock(1n, 'write');
    const earlier = (): void => void world.called.push('earlier');
    const wanted = request(2n, 'write', 'posix');
    world.queue.wait(FILE, wanted, earlier);
    world.wait(2n, 'write');
    world.queue.pause(FILE, wanted, earlier);
    world.queue.leave(FILE, wanted, earlier);
    world.lock(1n, 'unlock');
    expect(world.called).toEqual(['write 2']);
  });

  it('makes room when it gives up after it was called', () => {
    world.lock(1n, 'write');
    world.wait(2n, 'write');
    world.wait(3n, 'write');
    world.lock(1n, 'unlock');
    world.queue.leave(FILE, request(2n, 'write', 'posix'));
    expect(world.called).toEqual(['write 2', 'write 3']);
  });

  it('is called when another thread of its process has got the lock', () => {
    world.lock(1n, 'read');
    world.lock(2n, 'read');
    expect(world.wait(1n, 'write')).toBe('held');
    world.held.set(FILE, []);
    world.lock(1n, 'write');
    expect(world.called).toEqual(['write 1']);
    expect(world.queue.waiterCount).toBe(0);
  });

  it('is told at once that nobody holds it', () => {
    expect(world.wait(2n, 'write')).toBe('free');
  });
});

describe('a circle of waiting', () => {
  it('is found by the one who would close it, also over several files and owners', () => {
    const third = 4 as Ino;
    world.lock(1n, 'write', FILE);
    world.lock(2n, 'write', OTHER);
    world.lock(3n, 'write', third);
    expect(world.wait(1n, 'write', OTHER)).toBe('held');
    expect(world.wait(2n, 'write', third)).toBe('held');
    expect(world.wait(3n, 'write', FILE)).toBe('deadlock');
    expect(world.queue.waiterCount).toBe(2);
    expect(world.wait(4n, 'write', FILE)).toBe('held');
  });

  it('of two readers that both want to write is one', () => {
    world.lock(1n, 'read');
    world.lock(2n, 'read');
    expect(world.wait(1n, 'write')).toBe('held');
    expect(world.wait(2n, 'write')).toBe('deadlock');
  });

  it('is none with who was interrupted, and keeps its place; if it asks again it finds the circle', () => {
    world.lock(1n, 'write', FILE);
    world.lock(2n, 'write', OTHER);
    expect(world.wait(1n, 'write', OTHER)).toBe('held');
    world.queue.pause(OTHER, request(1n, 'write', 'posix'));
    expect(world.wait(2n, 'write', FILE)).toBe('held');
    expect(world.wait(1n, 'write', OTHER)).toBe('deadlock');
  });

  it('is none with who was called, and has only to take its lock', () => {
    world.lock(1n, 'write', FILE);
    world.lock(2n, 'write', OTHER);
    world.wait(1n, 'write', OTHER);
    world.lock(2n, 'unlock', OTHER);
    expect(world.called).toEqual(['write 1']);
    world.lock(2n, 'read', OTHER);
    expect(world.wait(2n, 'write', FILE)).toBe('held');
  });

  it('is not looked for with flock, whose owner gives up its lock before it waits', () => {
    world.lock(1n, 'read', FILE, 'flock');
    world.lock(2n, 'read', FILE, 'flock');
    expect(world.wait(1n, 'write', FILE, 'flock')).toBe('held');
    expect(world.wait(2n, 'write', FILE, 'flock')).toBe('held');
  });
});
