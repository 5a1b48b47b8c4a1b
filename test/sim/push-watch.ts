/**
 * R5 and R6 seen from outside: what a member acknowledges although it had given up that epoch, or knew a newer one,
 * before the message was even sent.
 */
import { FIRST_GROUP_ID } from '../../src/catalog/document.ts';
import { groupMethods } from '../../src/meta/group/messages.ts';
import { parseSyncPush, parseSyncPushReply } from '../../src/meta/group/push-codec.ts';
import type { RunningNode } from '../../src/node.ts';

/** Looks at the pushes that `node` sends from now on; `sent` is told of each as it leaves. */
export function watchPushes(
  node: RunningNode,
  find: (id: string) => RunningNode | undefined,
  report: (what: string) => void,
  sent: (to: string) => void,
): void {
  const { network } = node;
  const call = network.call.bind(network);
  network.call = (to, method, header, options) => {
    const called = call(to, method, header, options);
    if (method !== groupMethods.syncPush) return called;
    sent(to);
    const receiver = find(to)?.meta.member(FIRST_GROUP_ID);
    if (receiver === undefined) return called;
    const { epoch } = parseSyncPush(header);
    const isNewer = receiver.status().epoch > epoch;
    const isFenced = receiver.fencedEpoch >= epoch;
    if (!isNewer && !isFenced) return called;
    called.then(
      (reply) => {
        if (parseSyncPushReply(reply.header).status !== 'logged') return;
        const why = isNewer ? 'R6: it knew a newer one' : 'R5: it had given it up';
        report(`${to} acknowledged a push of ${node.id} in epoch ${epoch} although ${why}`);
      },
      () => undefined,
    );
    return called;
  };
}
