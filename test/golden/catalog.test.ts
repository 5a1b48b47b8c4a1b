/**
 * Runs of the catalog's Paxos, written down message by message in catalog-*.txt, in the order of the answers. A ballot is
 * written round.node; what a node asks of its own acceptor is no message and is left out.
 */
import { resolve } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import type { Catalog } from '../../src/catalog/types.ts';
import { CatalogWorld } from '../support/catalog-world.ts';

let w: CatalogWorld;
let lines: string[];

type Fields = Record<string, unknown>;

function ballotText(ballot: unknown): string {
  return (ballot as unknown[]).join('.');
}

/** What the last change was, told by the pool that it made. */
function valueText(catalog: unknown): string {
  return (catalog as Catalog).pools.at(-1)!.name;
}

function replyText(reply: Fields): string {
  switch (reply['status']) {
    case 'promised': {
      const accepted = reply['accepted'] as Fields | null;
      if (accepted === null) return 'promised';
      return `promised, has accepted ${ballotText(accepted['ballot'])} ${valueText(accepted['catalog'])}`;
    }
    case 'outbid':
      return `outbid by ${ballotText(reply['promised'])}`;
    case 'ahead':
      return `ahead, catalog ${(reply['catalog'] as Catalog).epoch}`;
    default:
      return String(reply['status']);
  }
}

function messageText(method: string, header: unknown, reply: unknown): string | undefined {
  const fields = header as Fields;
  const answer = reply as Fields;
  switch (method) {
    case 'catalog.prepare':
      return `Prepare ${ballotText(fields['ballot'])} for epoch ${String(fields['epoch'])} -> ${replyText(answer)}`;
    case 'catalog.accept': {
      const what = `${ballotText(fields['ballot'])} ${valueText(fields['catalog'])}`;
      return `Accept ${what} for epoch ${String(fields['epoch'])} -> ${replyText(answer)}`;
    }
    default:
      return undefined;
  }
}

async function start(seed: number): Promise<void> {
  lines = [];
  w = await CatalogWorld.start({
    seed,
    onCall(from, to, method, header, reply) {
      const text = messageText(method, header, reply);
      if (text !== undefined) lines.push(`${from} > ${to}  ${text}`);
    },
  });
  for (const name of w.nodes.keys()) watch(name);
}

function watch(name: string): void {
  const { catalog } = w.node(name);
  catalog.subscribe((next) => lines.push(`${name} has catalog ${next.epoch}: ${valueText(next)}`));
}

function say(text: string): void {
  lines.push('', `# ${text}`);
}

async function matches(name: string): Promise<void> {
  await expect(`${lines.join('\n').trim()}\n`).toMatchFileSnapshot(resolve(import.meta.dirname, `catalog-${name}.txt`));
}

afterEach(() => w.close());

it('a change: phase one once, then one round trip for each', async () => {
  await start(1);
  say('the first change of n1');
  await w.world.settle(w.change('n1'));
  await w.world.run(500);
  say('the next one');
  await w.world.settle(w.change('n1'));
  await w.world.run(500);
  await matches('change');
});

it('a duel: two propose for one epoch, one wins, the other compares again', async () => {
  await start(2);
  say('n1 and n3 want a change each, at the same time');
  await w.world.settle(Promise.all([w.change('n1'), w.change('n3')]));
  await w.world.run(500);
  await matches('duel');
});

it('what a proposer left half done is finished by the next one, before its own', async () => {
  await start(3);
  say('n1 changes something; its power fails when n2 has accepted, before n1 knows');
  w.world.network.partition('n1', 'n3');
  const lost = w.change('n1', 60_000).catch(() => undefined);
  await w.world.runUntil(() => w.node('n2').catalog.voter!.inquiry().acceptedEpoch === 2);
  w.crash('n1');
  say('n3 changes something');
  await w.world.settle(w.change('n3', 20_000));
  await w.world.run(500);
  say('n1 is back, and asks for the newest catalog');
  w.world.network.heal();
  await w.startNode('n1');
  watch('n1');
  await w.world.settle(w.node('n1').catalog.confirm(5_000));
  await w.agree();
  void lost;
  await matches('unfinished');
});
