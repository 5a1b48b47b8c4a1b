/**
 * A read of the newest chosen catalog that is certain. Every catalog was accepted by a majority of the voters that the one
 * before names; so if a majority of the voters of catalog e has neither a newer one nor accepted one for e+1, there was
 * none when they were asked. What was accepted somewhere may be chosen: a voter finishes that first.
 */
import type { Env } from '../env.ts';
import { UnavailableError } from '../errors.ts';
import type { NodeId } from '../ids.ts';
import { ATTEMPT_TIMEOUT_MS } from '../limits.ts';
import type { Network } from '../net/types.ts';
import type { Decider } from './decider.ts';
import { catalogMethods, parseInquiry } from './messages.ts';
import type { VoterInquiry } from './messages.ts';
import { majorityOf } from './paxos.ts';
import { parseCatalog } from './schema.ts';
import type { Catalog } from './types.ts';
import { reasonOf } from './voter.ts';
import type { Voter } from './voter.ts';

export interface ConfirmOptions {
  readonly env: Env;
  readonly network: Network;
  readonly current: () => Catalog;
  readonly adopt: (catalog: Catalog) => Promise<void>;
  readonly refreshFrom: (node: NodeId, timeoutMs: number) => Promise<void>;
  readonly own: { readonly self: NodeId; readonly voter: Voter; readonly decider: Decider } | undefined;
  readonly timeoutMs: number;
}

/** One question to all voters; who needs longer is asked again. */
const INQUIRY_TIMEOUT_MS = 1_000;
const PAUSE_MS = 100;

type Answers = ReadonlyMap<NodeId, VoterInquiry | string>;

export async function confirmNewest(o: ConfirmOptions): Promise<Catalog> {
  const { clock, random } = o.env;
  const deadlineMs = clock.monotonicMs() + o.timeoutMs;
  for (;;) {
    const base = o.current();
    const leftMs = deadlineMs - clock.monotonicMs();
    const answers = await inquireAll(o, base, Math.min(INQUIRY_TIMEOUT_MS, Math.max(1, leftMs)));
    const fit = [...answers].flatMap(([id, answer]) =>
      typeof answer !== 'string' && answer.fit ? [{ id, answer }] : [],
    );
    const newer = fit.find(({ answer }) => answer.epoch > base.epoch);
    if (newer !== undefined && o.current().epoch <= base.epoch) {
      await o.refreshFrom(newer.id, ATTEMPT_TIMEOUT_MS).catch(() => undefined);
    }
    const enough = fit.length >= majorityOf(base.voters.length);
    if (enough && newer === undefined) {
      if (!fit.some(({ answer }) => answer.acceptedEpoch === base.epoch + 1)) return o.current();
      const finished = await finish(o, base, deadlineMs);
      if (finished !== undefined) return finished;
    }
    if (clock.monotonicMs() >= deadlineMs) throw uncertain(base, answers);
    if (o.current() === base) await clock.sleep(Math.min(PAUSE_MS, 1 + random.below(PAUSE_MS)));
  }
}

/** Resolves as soon as a majority has answered, or all have, or the time is over. */
function inquireAll(o: ConfirmOptions, { voters }: Catalog, timeoutMs: number): Promise<Answers> {
  const answers = new Map<NodeId, VoterInquiry | string>();
  return new Promise((resolve) => {
    const note = (voter: NodeId, answer: VoterInquiry | string): void => {
      answers.set(voter, answer);
      const fitCount = [...answers.values()].filter((each) => typeof each !== 'string' && each.fit).length;
      if (fitCount >= majorityOf(voters.length) || answers.size === voters.length) resolve(new Map(answers));
    };
    for (const voter of voters) {
      if (voter === o.own?.self) {
        note(voter, o.own.voter.inquiry());
        continue;
      }
      inquire(o.network, voter, timeoutMs).then(
        (answer) => note(voter, answer),
        (error: unknown) => note(voter, reasonOf(error)),
      );
    }
  });
}

/** How a voter is. Rejects if it does not answer. */
export async function inquire(network: Network, voter: NodeId, timeoutMs: number): Promise<VoterInquiry> {
  const reply = await network.call(voter, catalogMethods.inquire, null, { timeoutMs });
  return parseInquiry(reply.header);
}

async function finish(o: ConfirmOptions, { voters }: Catalog, deadlineMs: number): Promise<Catalog | undefined> {
  const { clock } = o.env;
  const timeoutMs = Math.max(1, Math.min(ATTEMPT_TIMEOUT_MS, deadlineMs - clock.monotonicMs()));
  try {
    if (o.own?.voter.votes === true) return await o.own.decider.finish(clock.monotonicMs() + timeoutMs);
  } catch {
    // Another voter may reach the others.
  }
  for (const voter of voters) {
    if (voter === o.own?.self || clock.monotonicMs() >= deadlineMs) continue;
    try {
      const reply = await o.network.call(voter, catalogMethods.finish, null, { timeoutMs });
      await o.adopt(parseCatalog((reply.header as { catalog?: unknown }).catalog));
      return o.current();
    } catch {
      // The next one.
    }
  }
  return undefined;
}

function uncertain({ voters }: Catalog, answers: Answers): UnavailableError {
  const silent = [...answers].flatMap(([id, answer]) => {
    if (typeof answer === 'string') return [`${id}: ${answer}`];
    return answer.fit ? [] : [`${id}: ${answer.reason}`];
  });
  return new UnavailableError(
    `which catalog is the newest cannot be told: ${majorityOf(voters.length)} of the voters (${voters.join(', ')}) must ` +
      `answer (${silent.join('; ') || 'what they accepted could not be finished'})`,
    { remedy: 'Start the voters that are down (`tatami status` shows them).', info: { voters } },
  );
}
