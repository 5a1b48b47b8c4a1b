/**
 * What the nodes said to each other about group and catalog, what they logged and what was done to them, in words and
 * with the virtual time: for whoever looks into a seed that failed (`npm run sim -- --seed N --timeline`).
 */
import { groupMethods, parseTailReply } from '../../src/meta/group/messages.ts';
import { parseSyncPush, parseSyncPushReply } from '../../src/meta/group/push-codec.ts';
import type { RunningNode } from '../../src/node.ts';

interface Line {
  readonly atMs: number;
  readonly text: string;
}

const SHOWN = /^(group|catalog)\./;
const TEXT_MAX = 240;

export class Timeline {
  readonly #nowMs: () => number;
  readonly #lines: Line[] = [];

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  note(text: string): void {
    this.#lines.push({ atMs: this.#nowMs(), text });
  }

  /** Notes what this node asks from now on, and what it is answered. */
  watch({ id, network }: RunningNode): void {
    const call = network.call.bind(network);
    network.call = (to, method, header, options) => {
      const called = call(to, method, header, options);
      if (!SHOWN.test(method)) return called;
      this.note(`${id} -> ${to}  ${method} ${describeCall(method, header)}`);
      called.then(
        (reply) => this.note(`${id} <- ${to}  ${method}: ${describeReply(method, reply.header)}`),
        (error: unknown) => this.note(`${id} <- ${to}  ${method}: ${String(error).slice(0, TEXT_MAX)}`),
      );
      return called;
    };
  }

  /** The lines between two times, oldest first. */
  between(fromMs: number, toMs: number): string[] {
    return this.#lines
      .filter(({ atMs }) => atMs >= fromMs && atMs <= toMs)
      .map(({ atMs, text }) => `${atMs.toFixed(1).padStart(9)}  ${text}`);
  }
}

function describeCall(method: string, header: unknown): string {
  if (method !== groupMethods.syncPush) return brief(header);
  const push = parseSyncPush(header);
  const { epoch, prevSeq, prevEpoch, entries, committedSeq, syncedSeq, sync, copy } = push;
  const flags = `${sync ? ' sync' : ''}${copy ? ' copy' : ''}`;
  return `epoch ${epoch}, after ${prevSeq}@${prevEpoch} ${entries.length} entries, committed ${committedSeq}, synced ${syncedSeq}${flags}`;
}

function describeReply(method: string, header: unknown): string {
  if (method === groupMethods.syncPush) return brief(parseSyncPushReply(header));
  if (method !== groupMethods.tail) return brief(header);
  const { ends, entries } = parseTailReply(header, 0);
  return `ends ${JSON.stringify(ends)}, ${entries.length} entries`;
}

function brief(value: unknown): string {
  const text = JSON.stringify(value, (key, inner: unknown) => {
    if (typeof inner === 'bigint') return Number(inner);
    if (inner instanceof Uint8Array) return `${inner.length} bytes`;
    // A whole catalog: its epoch and its group say enough.
    if (key === 'catalog' && typeof inner === 'object' && inner !== null) {
      const { epoch, voters, groups } = inner as Readonly<Record<string, unknown>>;
      return { epoch, voters, groups };
    }
    return inner;
  });
  return (text ?? '').slice(0, TEXT_MAX);
}
