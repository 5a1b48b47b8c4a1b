import { expect, it } from 'vitest';
import { Notifications } from './notifications.ts';

class Kernel {
  readonly got: string[] = [];
  readonly notifications = new Notifications((pieces, sent) => {
    this.got.push(String(Buffer.concat(pieces)));
    this.sent = (isTaken = true) => sent(isTaken);
  });
  sent: (isTaken?: boolean) => void = () => {};
  tell(text: string): { done: boolean } {
    const told = { done: false };
    void this.notifications.add(Buffer.from(text)).then(() => (told.done = true));
    return told;
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

it('are sent one at a time, and what waits already is not sent twice', async () => {
  const kernel = new Kernel();
  const first = kernel.tell('a');
  // The first is under way: what it drops may be there again since.
  const second = kernel.tell('a');
  const same = kernel.tell('a');
  const other = kernel.tell('b');
  expect(kernel.got).toEqual(['a']);
  kernel.sent();
  await turn();
  expect([first.done, second.done, same.done]).toEqual([true, false, false]);
  expect(kernel.got).toEqual(['a', 'a']);
  kernel.sent();
  await turn();
  expect([second.done, same.done, other.done]).toEqual([true, true, false]);
  kernel.sent();
  await turn();
  expect(kernel.got).toEqual(['a', 'a', 'b']);
  expect([other.done, kernel.notifications.isSending]).toEqual([true, false]);
});

it('that are given up end, but for the one that is under way', async () => {
  const kernel = new Kernel();
  const [first, second] = [kernel.tell('a'), kernel.tell('b')];
  kernel.notifications.giveUp();
  await turn();
  expect([first.done, second.done, kernel.notifications.isSending]).toEqual([false, true, true]);
  kernel.sent();
  await turn();
  expect([first.done, kernel.got]).toEqual([true, ['a']]);
});

it('that say what was to be undone before some content came are said again after it', async () => {
  const kernel = new Kernel();
  kernel.tell('begun');
  const before = kernel.tell('drop');
  const content = kernel.notifications.addContent([Buffer.from('con'), Buffer.from('tent')]);
  const after = kernel.tell('drop');
  kernel.tell('drop');
  for (let sent = 0; sent < 3; sent += 1) {
    kernel.sent();
    await turn();
  }
  expect([before.done, await content, after.done]).toEqual([true, true, false]);
  kernel.sent();
  await turn();
  expect([after.done, kernel.got]).toEqual([true, ['begun', 'drop', 'content', 'drop']]);
});

it('tell whether the kernel has taken some content', async () => {
  const kernel = new Kernel();
  const refused = kernel.notifications.addContent([Buffer.from('a')]);
  const neverSent = kernel.notifications.addContent([Buffer.from('b')]);
  kernel.notifications.giveUp();
  kernel.sent(false);
  expect([await refused, await neverSent, kernel.got]).toEqual([false, false, ['a']]);
});
