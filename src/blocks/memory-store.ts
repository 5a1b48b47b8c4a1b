import type { PoolId } from '../ids.ts';
import { EngineStore } from './engine-store.ts';
import { MemoryEngine, type MemoryEngineOptions } from './memory-engine.ts';

export { MemoryEngine } from './memory-engine.ts';
export type { MemoryEngineOptions } from './memory-engine.ts';

/** A {@link BlockStore} in memory: the reference that the other stores are compared with, and handy in tests. */
export class MemoryStore extends EngineStore {
  constructor(options: MemoryEngineOptions = {}) {
    super(new MemoryEngine(options), 1 as PoolId);
  }
}
