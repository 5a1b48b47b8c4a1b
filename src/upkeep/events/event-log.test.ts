import { describe, expect, it } from 'vitest';
import { MemoryDisk } from '../../env-memory.ts';
import { nodeRandom } from '../../env-node.ts';
import { FormatError } from '../../errors.ts';
import { SILENT_LOGGER } from '../../log.ts';
import { EventLog } from './event-log.ts';
import type { EventRecord } from './event.ts';

const event = (id: string): EventRecord => ({ id, kind: 'node-up', atMs: 1, epoch: 1, by: 'n1', node: id });

async function openLog(disk = new MemoryDisk(), keptCount = 4) {
  await disk.mkdir('/node');
  const options = { disk, random: nodeRandom, path: '/node/events.jsonl', log: SILENT_LOGGER, keptCount };
  return { disk, log: await EventLog.open(options), reopen: () => EventLog.open(options) };
}

const ids = (log: EventLog): string[] => log.after(0, 100).map((logged) => logged.event.id);

describe('a history of events', () => {
  it('is the same when it is opened again, each event once, positions going on', async () => {
    const { log, reopen } = await openLog();
    log.append([event('a'), event('b')]);
    log.append([event('b'), event('c')]);
    expect(log.after(1, 1).map(({ seq }) => seq)).toEqual([2]);
    await log.close();
    const again = await reopen();
    expect([ids(again), again.id, again.lastSeq]).toEqual([['a', 'b', 'c'], log.id, 3]);
    again.append([event('a'), event('d')]);
    expect(again.after(3, 10)).toEqual([{ seq: 4, event: event('d') }]);
    await again.close();
  });

  it('keeps the latest ones, in memory and on disk', async () => {
    const { disk, log, reopen } = await openLog();
    for (let n = 1; n <= 30; n++) {
      log.append([event(`e${n}`)]);
      await log.close();
    }
    expect(ids(log).length).toBeLessThanOrEqual(8);
    expect(ids(log).at(-1)).toBe('e30');
    const again = await reopen();
    expect(ids(again).slice(-4)).toEqual(['e27', 'e28', 'e29', 'e30']);
    expect(again.lastSeq).toBe(30);
    await again.close();
    expect((await disk.readFile('/node/events.jsonl')).length).toBeLessThan(2_000);
  });

  it('passes over lines that are torn or rotten', async () => {
    const { disk, log, reopen } = await openLog();
    log.append([event('a'), event('b'), event('c')]);
    await log.close();
    const lines = new TextDecoder().decode(await disk.readFile('/node/events.jsonl')).split('\n');
    lines[2] = (lines[2] ?? '').replace('"b"', '"x"');
    const torn = lines.join('\n').slice(0, -10);
    await disk.writeFileAtomic('/node/events.jsonl', new TextEncoder().encode(torn));
    const again = await reopen();
    expect([ids(again), again.id]).toEqual([['a'], log.id]);
    again.append([event('c')]);
    await again.close();
    expect(ids(await reopen())).toEqual(['a', 'c']);
  });

  it('refuses a newer format, and begins anew where nothing can be read', async () => {
    const { disk, log, reopen } = await openLog();
    await log.close();
    await disk.writeFileAtomic('/node/events.jsonl', new TextEncoder().encode('rubbish\n'));
    const fresh = await reopen();
    expect(fresh.id).not.toBe(log.id);
    await fresh.close();
    const head = '{"format":2,"log":"ab"}';
    const { xxh64 } = await import('../../xxhash.ts');
    const sum = xxh64(new TextEncoder().encode(head)).toString(16).padStart(16, '0');
    await disk.writeFileAtomic('/node/events.jsonl', new TextEncoder().encode(`${sum} ${head}\n`));
    await expect(reopen()).rejects.toThrow(FormatError);
  });

  it('wakes who waits for the next one', async () => {
    const { log } = await openLog();
    let woken = 0;
    const takeBack = log.onNext(() => woken++);
    log.append([event('a')]);
    log.append([event('b')]);
    expect(woken).toBe(1);
    takeBack();
    log.onNext(() => woken++)();
    log.append([event('c')]);
    expect(woken).toBe(1);
    await log.close();
  });
});
