/**
 * Bytes of one file that were written and have not left yet: per block of the file, runs in ascending order that do
 * not overlap. A stream of appends is one growing run; scattered small writes are small runs.
 */
import type { WriteMemory } from './write-memory.ts';

export interface Run {
  /** In the file. */
  offset: number;
  length: number;
  /** The run's bytes are its first `length`. */
  buffer: Uint8Array;
}

interface DirtyBlock {
  runs: Run[];
  /** Invariant: the sum of the runs' lengths. Runs do not overlap, so the block is whole when it equals the block size. */
  bytes: number;
}

export class DirtyBlocks {
  readonly #blocks = new Map<number, DirtyBlock>();
  readonly #memory: WriteMemory;
  readonly blockSizeBytes: number;

  constructor(memory: WriteMemory, blockSizeBytes: number) {
    this.#memory = memory;
    this.blockSizeBytes = blockSizeBytes;
  }

  get isEmpty(): boolean {
    return this.#blocks.size === 0;
  }

  /** Numbers of the blocks that have dirty runs, in the order they were first written. */
  indexes(): number[] {
    return [...this.#blocks.keys()];
  }

  runs(index: number): readonly Run[] {
    return this.#blocks.get(index)?.runs ?? [];
  }

  /** Copies the bytes in. Returns the numbers of blocks that are now dirty from start to end. */
  write(offset: number, data: Uint8Array): readonly number[] {
    let whole: number[] | undefined;
    let done = 0;
    while (done < data.length) {
      const at = offset + done;
      const index = Math.floor(at / this.blockSizeBytes);
      const blockEnd = (index + 1) * this.blockSizeBytes;
      const length = Math.min(data.length - done, blockEnd - at);
      const piece = done === 0 && length === data.length ? data : data.subarray(done, done + length);
      let block = this.#blocks.get(index);
      if (block === undefined) {
        block = { runs: [], bytes: 0 };
        this.#blocks.set(index, block);
      }
      this.#writeIn(block, at, piece, blockEnd);
      if (block.bytes === this.blockSizeBytes) (whole ??= []).push(index);
      done += length;
    }
    return whole ?? NONE;
  }

  #writeIn(block: DirtyBlock, offset: number, data: Uint8Array, blockEnd: number): void {
    const { runs } = block;
    const end = offset + data.length;
    const last = runs[runs.length - 1];
    const low =
      last === undefined || last.offset + last.length <= offset ? runs.length : firstEndingAfter(runs, offset);
    let high = low;
    while (high < runs.length && (runs[high] as Run).offset < end) high += 1;

    if (low === high) {
      const before = runs[low - 1];
      if (before !== undefined && before.offset + before.length === offset)
        this.#append(block, before, data, 0, blockEnd);
      else {
        const buffer = this.#memory.allocate(data.length, blockEnd - offset);
        buffer.set(data);
        runs.splice(low, 0, { offset, length: data.length, buffer });
        block.bytes += data.length;
      }
      return;
    }
    const first = runs[low] as Run;
    if (high === low + 1 && first.offset <= offset) {
      const inside = Math.min(data.length, first.offset + first.length - offset);
      first.buffer.set(inside === data.length ? data : data.subarray(0, inside), offset - first.offset);
      if (inside < data.length) this.#append(block, first, data, inside, blockEnd);
      return;
    }
    // The write covers several runs, or begins before one: they become one run.
    const final = runs[high - 1] as Run;
    const from = Math.min(offset, first.offset);
    const to = Math.max(end, final.offset + final.length);
    const buffer = this.#memory.allocate(to - from, blockEnd - from);
    for (const run of runs.splice(low, high - low, { offset: from, length: to - from, buffer })) {
      buffer.set(run.buffer.subarray(0, run.length), run.offset - from);
      block.bytes -= run.length;
      this.#memory.free(run.buffer, true);
    }
    buffer.set(data, offset - from);
    block.bytes += to - from;
  }

  /** Adds data[skip..] at the run's end; nothing lies there. */
  #append(block: DirtyBlock, run: Run, data: Uint8Array, skip: number, blockEnd: number): void {
    const added = data.length - skip;
    const length = run.length + added;
    if (length > run.buffer.length) {
      const grown = this.#memory.allocate(length, blockEnd - run.offset);
      grown.set(run.buffer.subarray(0, run.length));
      this.#memory.free(run.buffer, true);
      run.buffer = grown;
    }
    run.buffer.set(skip === 0 ? data : data.subarray(skip), run.length);
    run.length = length;
    block.bytes += added;
  }

  /** Takes the block's runs out; runs that lie end to end come as one. The buffers are the caller's to free. */
  take(index: number): Run[] {
    const block = this.#blocks.get(index);
    if (block === undefined) return [];
    this.#blocks.delete(index);
    const { runs } = block;
    if (runs.length === 1) return runs;
    const joined: Run[] = [];
    for (let start = 0; start < runs.length;) {
      let end = start + 1;
      let length = (runs[start] as Run).length;
      while (
        end < runs.length &&
        (runs[end] as Run).offset === (runs[end - 1] as Run).offset + (runs[end - 1] as Run).length
      ) {
        length += (runs[end] as Run).length;
        end += 1;
      }
      joined.push(end === start + 1 ? (runs[start] as Run) : this.#join(runs.slice(start, end), length));
      start = end;
    }
    return joined;
  }

  #join(runs: readonly Run[], length: number): Run {
    const { offset } = runs[0] as Run;
    const blockEnd = (Math.floor(offset / this.blockSizeBytes) + 1) * this.blockSizeBytes;
    const buffer = this.#memory.allocate(length, blockEnd - offset);
    for (const run of runs) {
      buffer.set(run.buffer.subarray(0, run.length), run.offset - offset);
      this.#memory.free(run.buffer, true);
    }
    return { offset, length, buffer };
  }

  /** Forgets everything from `sizeBytes` on. */
  truncate(sizeBytes: number): void {
    for (const [index, block] of this.#blocks) {
      if ((index + 1) * this.blockSizeBytes <= sizeBytes) continue;
      const kept: Run[] = [];
      for (const run of block.runs) {
        if (run.offset >= sizeBytes) {
          block.bytes -= run.length;
          this.#memory.free(run.buffer, true);
          continue;
        }
        const length = Math.min(run.length, sizeBytes - run.offset);
        block.bytes -= run.length - length;
        run.length = length;
        kept.push(run);
      }
      block.runs = kept;
      if (kept.length === 0) this.#blocks.delete(index);
    }
  }

  /** Of all runs. */
  bytes(): number {
    let bytes = 0;
    for (const block of this.#blocks.values()) bytes += block.bytes;
    return bytes;
  }

  /** End of the last run, 0 without any. */
  endBytes(): number {
    let end = 0;
    for (const { runs } of this.#blocks.values()) {
      const last = runs[runs.length - 1];
      if (last !== undefined && last.offset + last.length > end) end = last.offset + last.length;
    }
    return end;
  }
}

const NONE: readonly number[] = [];

/** Index of the first run that ends after `offset`. */
function firstEndingAfter(runs: readonly Run[], offset: number): number {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const run = runs[middle] as Run;
    if (run.offset + run.length > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}
