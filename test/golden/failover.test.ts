/**
 * Who becomes primary when: fail-over and what it is made of, written down message by message in failover-*.txt. How to
 * read them: test/support/group-script.ts.
 */
import { resolve } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { GroupScript } from '../support/group-script.ts';
import type { GroupScriptOptions } from '../support/group-script.ts';
import type { GroupWorld } from '../support/group-world.ts';

let script: GroupScript;
let w: GroupWorld;

/** What was said until it serves is told in first-start. */
async function start(options: GroupScriptOptions): Promise<void> {
  script = await GroupScript.start(options);
  w = script.world;
  await evenOut();
  if (options.intro === undefined) script.skip();
}

/** Everybody has everything, and knows it. */
async function evenOut(): Promise<void> {
  await w.quiet();
  await w.world.run(600);
}

async function matches(name: string): Promise<void> {
  await expect(script.text).toMatchFileSnapshot(resolve(import.meta.dirname, `failover-${name}.txt`));
}

afterEach(async () => {
  await w.digest();
  await w.close();
  expect(w.failures).toEqual([]);
});

it('first start: the primary makes sure of its secondary, and has an epoch of its own before it serves', async () => {
  await start({ seed: 31, intro: 'three nodes start, each with the first catalog' });
  script.say('it serves: the first creation');
  await w.createAll(await w.client(), ['a']);
  await evenOut();
  await matches('first-start');
});

it('fail-over: the secondary takes over, and the first learner that asks is its secondary', async () => {
  await start({ seed: 32 });
  const client = await w.client();
  await w.createAll(client, ['a']);
  await evenOut();
  script.skip();
  script.say('n1 loses its power; a creation waits');
  w.crash('n1', 'power');
  await w.createAll(client, ['b']);
  script.say('acknowledged by n2, which has n3 as its secondary');
  await evenOut();
  await matches('takes-over');
});

it('a cascade of three: each fails after the one before it has been replaced', async () => {
  await start({ seed: 33, nodes: 5 });
  const client = await w.client();
  await w.createAll(client, ['a']);
  await evenOut();
  script.skip();
  const fail = async (why: string, name: string): Promise<void> => {
    const { primary } = w.group();
    script.say(`${why}: ${primary} loses its power`);
    w.crash(primary, 'power');
    await w.createAll(client, [name]);
    await evenOut();
  };
  await fail('the first', 'b');
  await fail('the second, which has taken its place', 'c');
  script.say('n1 is back: a majority of the five voters is up whoever fails next');
  await w.startNode('n1');
  await evenOut();
  await fail('the third', 'd');
  script.say('and nothing is lost');
  await evenOut();
  expect((await w.list(client)).sort()).toEqual(['a', 'b', 'c', 'd']);
  await matches('cascade');
});

it('a partition heals: the old primary answers nothing meanwhile, and follows afterwards', async () => {
  await start({ seed: 34 });
  const [near, far] = [await w.client('c1'), await w.client('c2')];
  await w.createAll(near, ['a']);
  await evenOut();
  script.skip();
  script.say('n1 is cut off from n2 and n3; c1 reaches it alone, c2 does not. c2 creates b');
  for (const other of ['n2', 'n3', 'c2']) w.world.network.partition('n1', other);
  for (const other of ['n2', 'n3']) w.world.network.partition('c1', other);
  const create = w.create(far, 'b');
  let seen: string[] | undefined;
  await w.world.settle(create);
  script.say('c2 has its answer from n2; c1 asks n1 for the names, and gets none');
  const listing = w.list(near).then((names) => (seen = names));
  await w.world.run(3_000);
  expect(seen).toBeUndefined();
  script.say('the partition ends');
  w.world.network.heal();
  await w.world.settle(listing);
  expect(seen).toEqual(['a', 'b']);
  await evenOut();
  await matches('partition-heals');
});

it('an old primary returns: what only it had logged was never acknowledged, and is cut off', async () => {
  await start({ seed: 35 });
  const client = await w.client();
  await w.createAll(client, ['a']);
  await evenOut();
  script.skip();
  script.say('n1 is cut off from the other nodes; it logs a creation, and dies');
  for (const other of ['n2', 'n3']) w.world.network.partition('n1', other);
  const before = w.node('n1').member.status().loggedSeq;
  const lost = w.create(client, 'b');
  await w.world.runUntil(() => w.node('n1').member.status().loggedSeq > before);
  w.crash('n1', 'process');
  script.say('n2 takes over, and is asked the same again');
  await w.world.settle(lost);
  await w.createAll(client, ['c']);
  await evenOut();
  script.say('n1 returns, with another entry in that place');
  w.world.network.heal();
  await w.startNode('n1');
  await evenOut();
  expect((await w.list(client)).sort()).toEqual(['a', 'b', 'c']);
  await matches('old-primary-returns');
});

it('the secondary dies while it is written to: nothing is acknowledged until there is another', async () => {
  await start({ seed: 36 });
  const client = await w.client();
  await w.createAll(client, ['a']);
  await evenOut();
  script.skip();
  script.say('n1 has logged some of six creations, and pushed them, when n2 dies');
  const all = Array.from({ length: 6 }, (_, index) => w.create(client, `b${index}`));
  const { loggedSeq } = w.node('n1').member.status();
  await w.world.runUntil(() => w.node('n1').member.status().loggedSeq > loggedSeq);
  w.crash('n2', 'process');
  await w.world.settle(Promise.all(all));
  script.say('all are acknowledged; n2 returns');
  await w.startNode('n2');
  await evenOut();
  await matches('secondary-dies');
});
