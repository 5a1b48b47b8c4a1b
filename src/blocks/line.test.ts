import { expect, it } from 'vitest';
import { Cancellation } from '../cancel.ts';
import { CancelledError } from '../errors.ts';
import { Line } from './line.ts';

/** Work that ends when told to. */
function job(started: string[], name: string): { work: () => Promise<string>; end: () => void } {
  let end!: () => void;
  const ended = new Promise<void>((resolve) => (end = resolve));
  const work = async (): Promise<string> => {
    started.push(name);
    await ended;
    return name;
  };
  return { work, end };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

it('runs some directly, some out of the queue, and the others in their turn', async () => {
  const line = new Line(1, 1_000, 2);
  const started: string[] = [];
  const jobs = ['a', 'b', 'c', 'd'].map((name) => job(started, name));
  const results = jobs.map(({ work }) => line.run(work, new Cancellation(), 1));
  await turn();
  expect(started).toEqual(['a', 'b', 'c']);
  jobs[2]?.end();
  await turn();
  expect(started).toEqual(['a', 'b', 'c', 'd']);
  // One that comes when there is room needs no turn.
  jobs[0]?.end();
  await turn();
  const last = job(started, 'e');
  results.push(line.run(last.work, new Cancellation(), 1));
  expect(started).toEqual(['a', 'b', 'c', 'd', 'e']);
  for (const { end } of [...jobs, last]) end();
  expect(await Promise.all(results)).toEqual(['a', 'b', 'c', 'd', 'e']);
});

it('lets go at once of what waits when its signal fires, and is idle when what ran has ended', async () => {
  const line = new Line(1, 1_000);
  const started: string[] = [];
  const [running, waiting] = [job(started, 'running'), job(started, 'waiting')];
  const signal = new Cancellation();
  const results = [running, waiting].map(({ work }) => line.run(work, signal, 1));
  await turn();
  signal.abort(new CancelledError());
  for (const result of results) await expect(result).rejects.toThrow(CancelledError);
  let idle = false;
  const idling = line.idle().then(() => (idle = true));
  await turn();
  expect(idle).toBe(false);
  running.end();
  await idling;
  expect(started).toEqual(['running']);
});

it('is idle at once where nothing was asked for', async () => {
  await new Line(1, 1_000, 1).idle();
});
