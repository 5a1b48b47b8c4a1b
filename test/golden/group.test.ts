/**
 * Runs of a metadata group, written down message by message in group-*.txt: the protocol, documented by what it does.
 * How to read them: test/support/group-script.ts.
 */
import { resolve } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { GroupScript } from '../support/group-script.ts';
import type { GroupWorld } from '../support/group-world.ts';

let script: GroupScript;
let w: GroupWorld;

const BOUNDS = { flushIntervalMs: 200, logKeepBytes: 1_024, segmentBytes: 1_024 };

async function start(seed: number, bounds?: typeof BOUNDS): Promise<void> {
  script = await GroupScript.start({ seed, ...(bounds === undefined ? {} : { bounds }) });
  w = script.world;
}

function say(text: string): void {
  script.say(text);
}

async function matches(name: string): Promise<void> {
  await expect(script.text).toMatchFileSnapshot(resolve(import.meta.dirname, `group-${name}.txt`));
}

afterEach(async () => {
  await w.close();
  expect(w.failures).toEqual([]);
});

it('a write: logged at both, then committed; the commit point rides on the next push', async () => {
  await start(1);
  const client = await w.client();
  await w.quiet();
  await w.world.run(1_000);
  say('one creation');
  await w.createAll(client, ['a']);
  say('acknowledged; within a beacon the others know that it is committed');
  await w.quiet();
  await w.world.run(600);
  say('fsync: on disk at both before it returns');
  await w.createAll(client, ['b']);
  await w.world.settle(client.meta.sync());
  await w.world.run(600);
  await matches('write');
});

it('a secondary that starts again catches up by the log', async () => {
  await start(2);
  const client = await w.client();
  await w.createAll(client, ['a', 'b']);
  await w.quiet();
  await w.world.run(600);
  say('n2 is killed; a creation waits for it; n2 starts again');
  w.crash('n2', 'process');
  const create = w.create(client, 'c');
  await w.world.run(200);
  await w.startNode('n2');
  await w.world.settle(create);
  say('acknowledged');
  await w.quiet();
  await w.world.run(600);
  await matches('secondary-restarts');
});

it('a secondary that is gone is dropped, a learner is appointed, the old one comes back as a learner', async () => {
  await start(3);
  const client = await w.client();
  await w.createAll(client, ['a']);
  await w.quiet();
  await w.world.run(600);
  say('n2 is killed; a creation waits');
  w.crash('n2', 'process');
  await w.createAll(client, ['b']);
  say('acknowledged, with n3 as secondary; n2 comes back');
  await w.startNode('n2');
  await w.quiet();
  await w.world.run(600);
  await matches('secondary-replaced');
});

it('a primary that is asked to stop hands over to its secondary, which serves with the next one', async () => {
  await start(6);
  const client = await w.client();
  await w.createAll(client, ['a']);
  await w.quiet();
  await w.world.run(600);
  say('n1 is asked to stop');
  await w.world.settle(w.node('n1').meta.leave());
  say('n2 serves: n1 may end');
  await w.createAll(client, ['b']);
  await w.quiet();
  await w.world.run(600);
  await matches('hand-over');
});

it('a learner that the log no longer reaches takes a full copy', async () => {
  await start(4, BOUNDS);
  const client = await w.client();
  await w.createAll(client, ['a']);
  await w.quiet();
  w.crash('n3', 'process');
  for (let round = 0; round < 6; round++) {
    await w.createAll(
      client,
      Array.from({ length: 10 }, (_, index) => `b${round}-${index}`),
    );
    await w.world.run(400);
  }
  await w.quiet();
  script.skip();
  say('n3 was gone while 60 files were made and the log was cut; it starts again');
  await w.startNode('n3');
  await w.world.runUntil(() => w.lines.some((line) => line.includes('the full copy is complete')));
  await w.quiet();
  await w.world.run(600);
  await matches('full-copy');
});

it('a primary that starts again takes over what only its secondary has, then an epoch of its own', async () => {
  await start(5);
  const client = await w.client();
  await w.createAll(client, ['a']);
  await w.quiet();
  await w.world.run(600);
  say('the power of n1 fails: what it had not on disk is gone there, n2 has it; n1 starts again');
  w.crash('n1', 'power');
  await w.world.run(500);
  await w.startNode('n1');
  await w.untilServing();
  await w.quiet();
  await w.world.run(600);
  await matches('primary-restarts');
});
