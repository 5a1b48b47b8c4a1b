import { expect, it } from 'vitest';
import { firstCatalog } from './catalog/document.ts';
import { testNode } from './catalog/testing.ts';
import type { CatalogClient } from './client.ts';
import { clusterEvents } from './cluster-events.ts';
import { createNodeEnv } from './env-node.ts';
import type { HistoryId } from './ids.ts';
import { parseEventListRequest } from './upkeep/events/messages.ts';

it('everything since 1970 is told, also where that began before it did in Greenwich', async () => {
  const nodes = [testNode(1)];
  const catalog = firstCatalog({ clusterId: 'ab'.repeat(16), historyId: '1'.repeat(16) as HistoryId, nodes });
  const event = { id: 'node-up/n1/1', kind: 'node-up', atMs: 5, epoch: 1, by: 'n1', node: 'n1' };
  const client = {
    network: {
      members: { view: () => undefined, stateOf: () => 'alive' },
      onMember: () => () => undefined,
      call: (_node: string, _method: string, header: unknown) => {
        const { sinceMs } = parseEventListRequest(header);
        return Promise.resolve({ header: { log: 'a', events: sinceMs > 5 ? [] : [event], next: 1, more: false } });
      },
    },
    catalog: { current: () => catalog },
    clock: createNodeEnv().clock,
  } as unknown as CatalogClient;
  const told: string[] = [];
  const wish = { since: new Date(-9 * 3_600_000), follow: false, signal: new AbortController().signal };
  const onMissing = (node: string, reason: string): void => void told.push(`${node}: ${reason}`);
  for await (const { text } of clusterEvents(client, { ...wish, onMissing })) told.push(text);
  expect(told).toEqual(['node n1 is up']);
});
