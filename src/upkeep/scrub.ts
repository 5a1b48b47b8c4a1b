/** Starts, sets and watches the scrubs of nodes, for `tatami scrub`. The work is done by the nodes (src/blocks/scrubber.ts). */
import { blockMethods } from '../blocks/block-messages.ts';
import type { ScrubReply, ScrubRequest } from '../blocks/scrub-messages.ts';
import type { ScrubSummary } from '../blocks/scrub-plan.ts';
import type { ScrubReport } from '../blocks/scrubber.ts';
import { dataNodes } from '../catalog/document.ts';
import type { CatalogService } from '../catalog/types.ts';
import type { Clock } from '../env.ts';
import { TatamiError, UsageError } from '../errors.ts';
import type { NodeId } from '../ids.ts';
import type { Network } from '../net/types.ts';

const ASK_TIMEOUT_MS = 5_000;
const POLL_MS = 500;
/** A node that does not answer for so long is not waited for. */
const SILENT_MAX_MS = 60_000;

export interface ScrubOptions {
  readonly network: Network;
  readonly catalog: Pick<CatalogService, 'current'>;
}

export interface ScrubAnswer {
  readonly node: NodeId;
  readonly reply?: ScrubReply;
  /** Why there is no reply, in words. */
  readonly reason?: string;
}

/** The nodes with data, or the one of that name. UsageError if there is none. */
export function nodesToScrub({ catalog }: ScrubOptions, only: string | undefined): NodeId[] {
  const nodes = dataNodes(catalog.current()).map((node) => node.id);
  if (only === undefined) return nodes;
  const found = nodes.find((id) => id === only);
  if (found !== undefined) return [found];
  throw new UsageError(`there is no node with data of the name ${only}`, {
    remedy: `The nodes are ${nodes.join(', ')}.`,
  });
}

/** Asks each of the nodes. Never rejects: who did not answer is told of in the answers. */
export async function askScrubbers(
  { network }: ScrubOptions,
  nodes: readonly NodeId[],
  request: ScrubRequest,
): Promise<ScrubAnswer[]> {
  return await Promise.all(
    nodes.map(async (node) => {
      try {
        const reply = await network.call(node, blockMethods.scrub, request, { timeoutMs: ASK_TIMEOUT_MS });
        return { node, reply: reply.header as ScrubReply };
      } catch (error) {
        return { node, reason: error instanceof TatamiError ? error.message : String(error) };
      }
    }),
  );
}

/** One node's pass that is waited for. */
export interface WatchedPass {
  readonly node: NodeId;
  readonly pass: number;
  /** Once it has ended. */
  readonly summary?: ScrubSummary;
  /** Why it is not waited for any more. */
  readonly reason?: string;
}

export interface ScrubProgress {
  readonly doneBytes: number;
  readonly passes: readonly WatchedPass[];
}

/** Resolves when all passes have ended or their nodes are gone; rejects when `signal` fires. The passes themselves go on. */
export async function watchScrubs(
  options: ScrubOptions & { readonly clock: Clock; readonly signal: AbortSignal },
  passes: readonly WatchedPass[],
  onProgress: (progress: ScrubProgress) => void,
): Promise<readonly WatchedPass[]> {
  const { clock, signal } = options;
  const done = new Map<NodeId, number>();
  const heardMs = new Map(passes.map(({ node }) => [node, clock.monotonicMs()]));
  let current = passes;
  for (;;) {
    const open = current.filter((one) => one.summary === undefined && one.reason === undefined);
    if (open.length === 0) return current;
    const answers = await askScrubbers(
      options,
      open.map(({ node }) => node),
      { action: 'report' },
    );
    const byNode = new Map(answers.map((answer) => [answer.node, answer]));
    const nowMs = clock.monotonicMs();
    current = current.map((one) => {
      const answer = byNode.get(one.node);
      if (answer === undefined || !open.includes(one)) return one;
      if (answer.reply === undefined) {
        const isGone = nowMs - (heardMs.get(one.node) ?? nowMs) > SILENT_MAX_MS;
        return isGone ? { ...one, reason: answer.reason ?? 'no answer' } : one;
      }
      heardMs.set(one.node, nowMs);
      const { report } = answer.reply;
      if (report.running?.id === one.pass) done.set(one.node, report.running.doneBytes);
      return endOf(one, report);
    });
    onProgress({ doneBytes: [...done.values()].reduce((sum, bytes) => sum + bytes, 0), passes: current });
    if (current.some((one) => one.summary === undefined && one.reason === undefined))
      await clock.sleep(POLL_MS, signal);
    signal.throwIfAborted();
  }
}

function endOf(watched: WatchedPass, { running, waiting, finished }: ScrubReport): WatchedPass {
  const summary = finished.find(({ id }) => id === watched.pass);
  if (summary !== undefined) return { ...watched, summary };
  if (running?.id === watched.pass || waiting.some(({ id }) => id === watched.pass)) return watched;
  // A request for one pool runs before the scheduled pass that is waited for.
  if (running?.kind === 'requested') return watched;
  return { ...watched, reason: 'its scrub was given up' };
}
