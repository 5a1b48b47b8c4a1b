/**
 * Drives a node's failure detector: its clock, its probes as calls, and the farewell. What it finds out is on
 * `network.members` and travels with ordinary messages; only where there are none does it make some of its own.
 */
import type { Env, Timer } from '../../env.ts';
import { UsageError } from '../../errors.ts';
import type { NodeId } from '../../ids.ts';
import type { Network } from '../types.ts';
import { FailureDetector, PROBE_TIMEOUT_MS, REACH_TIMEOUT_MS } from './detector.ts';
import type { DetectorStep } from './detector.ts';

/** Who stops in order says so to this many others, who pass it on. */
const FAREWELL_COUNT = 8;
/** A node that stops is not kept waiting by one that does not answer. */
const FAREWELL_TIMEOUT_MS = 200;

export interface MembershipOptions {
  readonly env: Pick<Env, 'clock' | 'random'>;
  readonly network: Network;
  readonly self: NodeId;
}

/** What a node answers to others; set before it listens. */
export function handleProbes(network: Network): void {
  network.handle('node.ping', () => ({ header: null }));
  network.handle('node.reach', async ({ header, remote }) => {
    const { node } = (header ?? {}) as { node?: unknown };
    if (remote.kind !== 'node' || typeof node !== 'string') throw new UsageError('node.reach: a node names a node');
    const probe = network.call(node as NodeId, 'node.ping', null, { timeoutMs: PROBE_TIMEOUT_MS });
    const reached = await probe.then(
      () => true,
      () => false,
    );
    return { header: { reached } };
  });
}

/** Begins to watch the others; the returned function tells them that this node stops, and ends it. */
export function watchMembers(options: MembershipOptions): () => Promise<void> {
  const driver = new MembershipDriver(options);
  return () => driver.close();
}

class MembershipDriver {
  readonly #o: MembershipOptions;
  readonly #detector: FailureDetector;
  readonly #unsubscribe: readonly (() => void)[];
  #timer: Timer;
  #stopped = false;

  constructor(options: MembershipOptions) {
    this.#o = options;
    const { env, network, self } = options;
    this.#detector = new FailureDetector(
      {
        self,
        board: network.members,
        below: (bound) => env.random.below(bound),
        heardMs: (node) => network.peer(node).heardMs,
        isConnected: (node) => network.peer(node).state === 'up',
      },
      this.#now(),
    );
    this.#unsubscribe = [
      network.onMember(({ node }) => this.#detector.changed(node, this.#now())),
      network.onPeerState((node, state) => {
        // Back, or lost: what is held of it is settled now, rather than when its turn comes.
        if (state !== 'unknown') this.#run(this.#detector.look(node, this.#now()));
      }),
    ];
    this.#timer = this.#arm();
  }

  async close(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#timer.cancel();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    const { network, self } = this.#o;
    const { members } = network;
    members.leave(this.#now());
    const isUp = (node: NodeId): boolean => node !== self && network.peer(node).state === 'up';
    const others = [...members.members].filter((node) => isUp(node) && members.stateOf(node) === 'alive');
    await Promise.all(others.slice(0, FAREWELL_COUNT).map((node) => this.#ping(node, FAREWELL_TIMEOUT_MS)));
  }

  #arm(): Timer {
    const { clock } = this.#o.env;
    return clock.setTimer(Math.max(1, this.#detector.nextMs - this.#now()), () => {
      if (this.#stopped) return;
      this.#run(this.#detector.tick(this.#now()));
      this.#timer = this.#arm();
    });
  }

  #run(steps: readonly DetectorStep[]): void {
    if (this.#stopped) return;
    for (const step of steps) {
      if (step.kind === 'tellAll') this.#o.network.tellAll(step.node);
      else if (step.kind === 'probe') void this.#probe(step.node);
      else void this.#reach(step.node, step.via);
    }
  }

  async #probe(node: NodeId): Promise<void> {
    const answered = await this.#ping(node, PROBE_TIMEOUT_MS);
    this.#run(this.#detector.probed(node, answered, this.#now()));
  }

  #ping(node: NodeId, timeoutMs: number): Promise<boolean> {
    return this.#o.network.call(node, 'node.ping', null, { timeoutMs }).then(
      () => true,
      () => false,
    );
  }

  async #reach(node: NodeId, via: NodeId): Promise<void> {
    const { network } = this.#o;
    const asked = network.call(via, 'node.reach', { node }, { timeoutMs: REACH_TIMEOUT_MS });
    const reached = await asked.then(
      ({ header }) => (header as { reached?: unknown } | null)?.reached === true,
      () => false,
    );
    this.#detector.reached(node, reached, this.#now());
  }

  #now(): number {
    return this.#o.env.clock.monotonicMs();
  }
}
