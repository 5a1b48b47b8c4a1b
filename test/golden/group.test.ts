/**
 * Runs of a metadata group, written down message by message in group-*.txt: the protocol, documented by what it does.
 * An entry is written as seq@epoch. Beacons that tell nothing new are left out.
 */
import { resolve } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import type { Group } from '../../src/catalog/types.ts';
import type { SyncPush } from '../../src/meta/group/messages.ts';
import { parseSyncPush, parseSyncPushReply } from '../../src/meta/group/push-codec.ts';
import { GroupWorld } from '../support/group-world.ts';

let w: GroupWorld;
let lines: string[];

const BOUNDS = { flushIntervalMs: 200, logKeepBytes: 1_024, segmentBytes: 1_024 };

function endsText(ends: readonly (readonly [number, number])[]): string {
  return ends.map(([epoch, seq]) => `${seq}@${epoch}`).join(' ');
}

function pushText(push: SyncPush): string {
  const { prevSeq, prevEpoch, entries } = push;
  const last = entries.length > 1 ? `..${prevSeq + entries.length}@${entries.at(-1)!.epoch}` : '';
  const what = entries.length === 0 ? 'nothing' : `${prevSeq + 1}@${entries[0]!.epoch}${last}`;
  const flags = `${push.sync ? ', on disk' : ''}${push.copy ? ', take a full copy' : ''}`;
  return `SyncPush ${what} after ${prevSeq}@${prevEpoch}, committed ${push.committedSeq}${flags}`;
}

function messageText(method: string, header: unknown, reply: unknown): string {
  const answer = reply as Record<string, unknown>;
  switch (method) {
    case 'group.syncPush': {
      const text = pushText(parseSyncPush(header));
      const pushed = parseSyncPushReply(reply);
      if (pushed.status === 'logged') return `${text} -> logged ${pushed.lastSeq}`;
      if (pushed.status === 'mismatch') return `${text} -> mismatch, ends ${endsText(pushed.ends)}`;
      return `${text} -> copying`;
    }
    case 'group.tail': {
      const { fromSeq } = header as { fromSeq: number };
      const count = (answer['entries'] as unknown[]).length;
      return `Tail from ${fromSeq} -> ends ${endsText(answer['ends'] as never)}${count > 0 ? `, ${count} entries` : ''}`;
    }
    case 'group.syncPull': {
      const { cursor } = header as { cursor: unknown };
      const at = `${String(answer['appliedSeq'])}@${String(answer['appliedEpoch'])}`;
      const rows = (answer['items'] as unknown[]).length > 0 ? 'rows' : 'no rows';
      return `SyncPull ${cursor === null ? 'from the start' : 'goes on'} -> ${rows} of ${at}${answer['cursor'] === null ? ', the end' : ''}`;
    }
    default:
      return `SecondaryQuery -> ${String(answer['answer'])}`;
  }
}

async function start(seed: number, bounds?: typeof BOUNDS): Promise<void> {
  lines = [];
  const told = new Map<string, string>();
  w = await GroupWorld.start({
    seed,
    ...(bounds === undefined ? {} : { bounds }),
    onCall(from, to, method, header, reply) {
      const text = messageText(method, header, reply);
      const beacon = method === 'group.syncPush' && parseSyncPush(header).entries.length === 0;
      if (beacon && told.get(to) === text) return;
      if (beacon) told.set(to, text);
      lines.push(`${from} > ${to}  ${text}`);
    },
  });
  watchCatalog();
}

function watchCatalog(): void {
  const { catalog } = w.node('n1');
  const tell = (group: Group) => {
    const { epoch, primary, secondary, learners } = group;
    lines.push(
      `catalog  epoch ${epoch}: primary ${primary}, secondary ${secondary ?? 'none'}, learners ${learners.join(' ')}`,
    );
  };
  tell(w.group());
  catalog.subscribe((next) => tell(next.groups[0]!));
}

function say(text: string): void {
  lines.push('', `# ${text}`);
}

async function matches(name: string): Promise<void> {
  await expect(`${lines.join('\n').trim()}\n`).toMatchFileSnapshot(resolve(import.meta.dirname, `group-${name}.txt`));
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
  lines.length = 0;
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
  watchCatalog();
  await w.untilServing();
  await w.quiet();
  await w.world.run(600);
  await matches('primary-restarts');
});
