/**
 * One question to all nodes at once. Who answers, answers within milliseconds; who is held to be down by those that answer is
 * not waited for until the deadline. So one stopped machine does not make every question slow.
 */
import type { Clock } from '../env.ts';
import type { NodeId } from '../ids.ts';
import { isDoubtful } from '../net/membership/board.ts';
import type { MemberView } from '../net/membership/board.ts';
import type { Network } from '../net/types.ts';

/** A suspicion may be wrong: whoever is suspected still has this long, many times what an answer takes. */
const DOUBTFUL_WAIT_MS = 300;

export interface AskContext {
  readonly network: Pick<Network, 'members' | 'onMember'>;
  readonly clock: Clock;
}

export type Answer<T> =
  | { readonly kind: 'answer'; readonly value: T }
  | { readonly kind: 'failed'; readonly error: unknown }
  /** It had not answered when all others had; they hold it to be down. */
  | { readonly kind: 'doubtful'; readonly view: MemberView };

/** `ask` has a deadline of its own. */
export function askNodes<T>(
  { network, clock }: AskContext,
  nodes: readonly NodeId[],
  ask: (node: NodeId) => Promise<T>,
): Promise<Map<NodeId, Answer<T>>> {
  return new Promise((resolve) => {
    const answers = new Map<NodeId, Answer<T>>();
    let patient = true;
    let done = false;
    const finish = (): void => {
      timer.cancel();
      unsubscribe();
      for (const node of nodes) {
        const view = network.members.view(node);
        if (!answers.has(node) && view !== undefined) answers.set(node, { kind: 'doubtful', view });
      }
      // In the order of the nodes, whoever was first.
      const inOrder = nodes.flatMap((node): [NodeId, Answer<T>][] => {
        const answer = answers.get(node);
        return answer === undefined ? [] : [[node, answer]];
      });
      done = true;
      resolve(new Map(inOrder));
    };
    const look = (): void => {
      if (done) return;
      const open = nodes.filter((node) => !answers.has(node));
      const mayStop = !patient && open.every((node) => isDoubtful(network.members.stateOf(node)));
      if (open.length === 0 || (mayStop && [...answers.values()].some(({ kind }) => kind === 'answer'))) finish();
    };
    const timer = clock.setTimer(DOUBTFUL_WAIT_MS, () => {
      patient = false;
      look();
    });
    const unsubscribe = network.onMember(look);
    for (const node of nodes) {
      ask(node).then(
        (value) => {
          answers.set(node, { kind: 'answer', value });
          look();
        },
        (error: unknown) => {
          answers.set(node, { kind: 'failed', error });
          look();
        },
      );
    }
    if (nodes.length === 0) finish();
  });
}
