/**
 * One try at one instance of Paxos: carries the proposer's messages to the voters and their replies back, asks again
 * whoever does not answer, and ends by the deadline at the latest.
 */
import type { Env, Timer } from '../env.ts';
import type { NodeId } from '../ids.ts';
import type { Network } from '../net/types.ts';
import { acceptToWire, catalogMethods, parseReply, prepareToWire } from './messages.ts';
import type { WireReply } from './messages.ts';
import type { Accept, AcceptReply, Ballot, Prepare, PrepareReply } from './paxos.ts';
import type { Instance, Proposer, ProposerOutput } from './proposer.ts';
import type { Catalog } from './types.ts';
import { reasonOf } from './voter.ts';
import type { Voter } from './voter.ts';
import type { CatalogValue } from './votes.ts';

export type RoundOutcome =
  | { readonly kind: 'chosen'; readonly value: CatalogValue }
  /** Nothing was to be proposed, and nothing had been chosen before. */
  | { readonly kind: 'open' }
  | { readonly kind: 'outbid'; readonly by: Ballot }
  /** A voter has this newer, chosen catalog. */
  | { readonly kind: 'ahead'; readonly catalog: Catalog }
  /** In words, why each voter that is missing does not answer. */
  | { readonly kind: 'timeout'; readonly missing: ReadonlyMap<NodeId, string> };

export interface RoundOptions {
  readonly env: Env;
  readonly network: Network;
  readonly self: NodeId;
  readonly voter: Voter;
  readonly proposer: Proposer<CatalogValue>;
  readonly instance: Instance<CatalogValue>;
  readonly deadlineMs: number;
}

/** A voter that has not answered is asked again this often: two syncs of a busy disk and a round trip take less. */
const ASK_AGAIN_MS = 300;
/** Longest that one question waits; a healthy voter answers in milliseconds, and asking again costs nothing. */
const ANSWER_TIMEOUT_MS = 1_500;

/** Rejects if this node's own vote cannot be had, or a safety rule is broken. */
export function runRound(options: RoundOptions): Promise<RoundOutcome> {
  return new Promise((resolve, reject) => {
    new Round(options, resolve, reject).start();
  });
}

class Round {
  readonly #o: RoundOptions;
  readonly #resolve: (outcome: RoundOutcome) => void;
  readonly #reject: (error: Error) => void;
  readonly #asked = new Set<NodeId>();
  readonly #silent = new Map<NodeId, string>();
  #timer: Timer | undefined;
  #over = false;

  constructor(o: RoundOptions, resolve: (outcome: RoundOutcome) => void, reject: (error: Error) => void) {
    this.#o = o;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  start(): void {
    for (const voter of this.#o.instance.voters) this.#silent.set(voter, 'has not answered');
    this.#guard(() => {
      this.#perform(this.#o.proposer.begin(this.#o.instance));
      this.#arm();
    });
  }

  #arm(): void {
    if (this.#over) return;
    const { env, deadlineMs, proposer } = this.#o;
    const leftMs = deadlineMs - env.clock.monotonicMs();
    this.#timer = env.clock.setTimer(Math.min(ASK_AGAIN_MS, leftMs), () => {
      if (this.#over) return;
      if (env.clock.monotonicMs() >= deadlineMs) {
        this.#end({ kind: 'timeout', missing: this.#silent });
        return;
      }
      this.#guard(() => {
        this.#perform(proposer.missing());
        this.#arm();
      });
    });
  }

  #perform(outputs: readonly ProposerOutput<CatalogValue>[]): void {
    for (const output of outputs) {
      switch (output.kind) {
        case 'prepare':
          for (const to of output.to)
            this.#ask(to, output.message, (reply) => this.#promised(to, output.message, reply));
          break;
        case 'accept':
          for (const to of output.to)
            this.#ask(to, output.message, (reply) => this.#accepted(to, output.message, reply));
          break;
        case 'chosen':
          this.#end({ kind: 'chosen', value: output.value });
          break;
        case 'open':
          this.#end({ kind: 'open' });
          break;
        case 'outbid':
          this.#end({ kind: 'outbid', by: output.by });
          break;
      }
    }
  }

  #promised(from: NodeId, asked: Prepare, reply: WireReply['reply']): void {
    this.#perform(this.#o.proposer.promiseFrom(from, asked, reply as PrepareReply<CatalogValue>));
  }

  #accepted(from: NodeId, asked: Accept<CatalogValue>, reply: WireReply['reply']): void {
    this.#perform(this.#o.proposer.acceptedFrom(from, asked, reply as AcceptReply));
  }

  #ask(to: NodeId, message: Prepare | Accept<CatalogValue>, use: (reply: WireReply['reply']) => void): void {
    // Asked again while the first question is still out: one that is slow is not helped by more.
    const key = `${to} ${'value' in message ? 'accept' : 'prepare'}` as NodeId;
    if (this.#asked.has(key)) return;
    this.#asked.add(key);
    this.#call(to, message).then(
      ({ reply, newer }) => {
        this.#asked.delete(key);
        if (this.#over) return;
        this.#silent.delete(to);
        if (newer !== undefined) this.#end({ kind: 'ahead', catalog: newer });
        else this.#guard(() => use(reply));
      },
      (error: unknown) => {
        this.#asked.delete(key);
        this.#silent.set(to, reasonOf(error));
        // Without its own vote, first of all on disk, a node proposes nothing.
        if (to === this.#o.self) this.#fail(error);
      },
    );
  }

  async #call(to: NodeId, message: Prepare | Accept<CatalogValue>): Promise<WireReply> {
    const { env, network, self, voter, deadlineMs } = this.#o;
    const isAccept = 'value' in message;
    if (to === self) return { reply: await (isAccept ? voter.accept(message) : voter.prepare(message)) };
    const leftMs = Math.max(1, deadlineMs - env.clock.monotonicMs());
    const [method, header] = isAccept
      ? [catalogMethods.accept, acceptToWire(message)]
      : [catalogMethods.prepare, prepareToWire(message)];
    const reply = await network.call(to, method, header, { timeoutMs: Math.min(ANSWER_TIMEOUT_MS, leftMs) });
    return parseReply(reply.header, message.epoch);
  }

  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#fail(error);
    }
  }

  #end(outcome: RoundOutcome): void {
    if (!this.#stop()) return;
    this.#resolve(outcome);
  }

  #fail(error: unknown): void {
    if (!this.#stop()) return;
    this.#reject(error instanceof Error ? error : new Error(String(error)));
  }

  #stop(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.#timer?.cancel();
    this.#o.proposer.stop();
    return true;
  }
}
