/** How a session tells which files it has open that lost their last name elsewhere; why is told in orphans.ts. */
import type { Ino } from '../ids.ts';
import type { AnswerForOrphans, MetaClient } from './types.ts';

/** Files asked about at a time. */
const PAGE_COUNT = 1_000;

/**
 * Answers for all orphans after number `after` in the group of `ino`. `answer` undefined: none are open. Rejects as queries and
 * mutations do; what was not answered is asked again.
 */
export async function answerForOrphans(
  client: Pick<MetaClient, 'query' | 'mutate'>,
  ino: Ino,
  after: number,
  answer: AnswerForOrphans | undefined,
): Promise<void> {
  for (let from = after; ;) {
    const { inos, upToNumber } = await client.query<'orphans'>({ op: 'orphans', ino, after: from, limit: PAGE_COUNT });
    const keep = async (open: readonly Ino[]): Promise<void> => {
      // Not under another session: that one has nothing to answer for, and has lost what is open.
      await client.mutate({ op: 'keepOrphans', ino, upToNumber, inos: open }, { fenced: true });
    };
    await (answer === undefined || inos.length === 0 ? keep([]) : answer(inos, keep));
    if (inos.length < PAGE_COUNT) return;
    from = upToNumber;
  }
}
