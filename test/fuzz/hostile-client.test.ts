/** A client with the cluster key that sends anything to every method: it gets errors, and harms nothing. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { blockMethods } from '../../src/blocks/block-messages.ts';
import { catalogMethods } from '../../src/catalog/messages.ts';
import type { Ino, NodeId, SessionId } from '../../src/ids.ts';
import { groupMethods } from '../../src/meta/group/messages.ts';
import { encodeSyncPush } from '../../src/meta/group/push-codec.ts';
import { metaMethods } from '../../src/meta/meta-service.ts';
import { encodeMutateRequest, encodeQueryRequest } from '../../src/meta/requests.ts';
import { SimCluster } from '../sim/cluster.ts';
import { FUZZ, checkError, damagedBytes, hostileHeader, spoiltHeader } from './support.ts';

const PLAUSIBLE_HEAD = { session: '0123456789abcdef'.repeat(2) as SessionId, requestId: 1, ackedBelow: 1 };
/** Every field that some method knows, with a value that may pass; a few of them are spoilt for each call. */
const PLAUSIBLE = {
  ...{ group: 'g0', ...PLAUSIBLE_HEAD, leaseMs: 1_000, label: 'x' },
  ...{ generation: 1, epoch: 1, historyId: 'h', prevSeq: 1, prevEpoch: 1 },
  ...{ entries: [[1, new Uint8Array(4)]], committedSeq: 1, syncedSeq: 1, sync: true, copy: false, fromSeq: 1 },
  ...{ cursor: null, known: 0, expected: 1, change: { kind: 'removeNode', id: 'n9' } },
  ...{ ballot: [1, 'n2'], proposal: 'ab'.repeat(8), catalog: null },
  ...{ pool: 1, id: new Uint8Array(32), ids: [new Uint8Array(32)], nodes: ['n2'], lengthBytes: 100, firstPage: 0 },
  ...{ pageCount: 1, wantHashes: true, after: null, limit: 10, before: 1, pageHashes: new Uint8Array(32) },
};
/** As above, for the methods whose headers are bytes. */
const PLAUSIBLE_BYTES = [
  encodeMutateRequest('g0', PLAUSIBLE_HEAD, { op: 'clone', ino: 99 as Ino, offset: 0, lengthBytes: 1, extents: [] }),
  encodeMutateRequest('g0', PLAUSIBLE_HEAD, {
    ...{ op: 'compact', ino: 99 as Ino, digest: new Uint8Array(32) },
    extent: { kind: 'inline', offset: 0, lengthBytes: 1, data: new Uint8Array(1) },
  }),
  encodeMutateRequest('g0', PLAUSIBLE_HEAD, { op: 'punch', ino: 99 as Ino, offset: 0, lengthBytes: 1 }),
  encodeQueryRequest('g0', { op: 'getattr', ino: 1 as Ino }),
  encodeSyncPush({
    ...{ group: 'g0', epoch: 1, historyId: 'h', prevSeq: 0, prevEpoch: 0, committedSeq: 1, syncedSeq: 1 },
    ...{ entries: [], sync: false, copy: true },
  }),
];
const METHODS = [
  ...Object.values(blockMethods),
  ...Object.values(groupMethods),
  ...Object.values(metaMethods),
  ...Object.values(catalogMethods),
  ...['node.ping', 'node.status', 'no.such'],
];

it('a hostile client gets errors and harms nothing', async () => {
  const sim = await SimCluster.start({ seed: 1 });
  const fs = await sim.connect();
  const content = Buffer.alloc(300_000, 'tatami');
  await sim.settle(fs.writeFile('/kept', content, { flush: true }));
  const client = await sim.client();
  let failed: Error | undefined;
  for (const node of sim.nodes()) void node.failed.then((error) => (failed = error));
  let refusedCount = 0;

  const call = fc.tuple(
    fc.constantFrom(...sim.cluster.nodeIds),
    fc.constantFrom(...METHODS),
    fc.oneof(
      spoiltHeader(PLAUSIBLE),
      hostileHeader(Object.keys(PLAUSIBLE)),
      fc.constant(PLAUSIBLE),
      damagedBytes(PLAUSIBLE_BYTES),
    ),
    fc.option(fc.uint8Array({ maxLength: 200 }), { nil: undefined }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(call, { minLength: 1, maxLength: 8 }), async (calls) => {
      const answers = calls.map(async ([to, method, header, bytes]) => {
        const payload = bytes === undefined ? {} : { payload: [bytes] };
        await client.network
          .call(to as NodeId, method, header, { timeoutMs: 1_000, ...payload })
          .catch((error: unknown) => {
            refusedCount++;
            checkError(error);
          });
      });
      await sim.settle(Promise.all(answers), { what: 'answers' });
      if (failed !== undefined) throw failed;
    }),
    { ...FUZZ, endOnFailure: true },
  );

  expect(refusedCount).toBeGreaterThan(FUZZ.numRuns);
  await sim.check();
  expect((await sim.settle((await sim.connect()).readFile('/kept'))).equals(content)).toBe(true);
  await sim.close();
});
