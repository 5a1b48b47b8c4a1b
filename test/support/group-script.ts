/**
 * A run of a metadata group as a script that a person can read: who says what to whom, and what the catalog becomes. An
 * entry is written as seq@epoch. Beacons that tell nothing new are left out, and so are calls that nobody answers.
 */
import type { Catalog, Group } from '../../src/catalog/types.ts';
import { TatamiError } from '../../src/errors.ts';
import type { GroupBounds } from '../../src/meta/group/member-options.ts';
import type { SyncPush } from '../../src/meta/group/messages.ts';
import { parseSyncPush, parseSyncPushReply } from '../../src/meta/group/push-codec.ts';
import { GroupWorld } from './group-world.ts';

/** What nodes log that belongs into the story, and what it means. */
const MOMENTS: ReadonlyMap<string, string> = new Map([
  ['the primary is silent', 'the primary is silent: gives its epoch up, durably, and asks the catalog to be the next'],
]);
/** Answers of somebody who does not take part in what is asked. */
const REFUSALS = ['ERR_STALE_EPOCH', 'ERR_NOT_PRIMARY'];

export interface GroupScriptOptions {
  readonly seed: number;
  readonly nodes?: number;
  readonly bounds?: GroupBounds;
  /** What the story begins with. */
  readonly intro?: string;
}

export class GroupScript {
  readonly lines: string[] = [];
  world!: GroupWorld;
  /** Of the group, told already. */
  readonly #epochs = new Set<number>();
  readonly #beacons = new Map<string, string>();

  /** A cluster that runs and serves, written down from its start. */
  static async start({ intro, ...options }: GroupScriptOptions): Promise<GroupScript> {
    const script = new GroupScript();
    if (intro !== undefined) script.say(intro);
    script.world = await GroupWorld.start({
      ...options,
      onCall: (from, to, method, header, reply) => script.#called(from, to, method, header, reply),
      onRefusal: (from, to, method, header, error) => script.#refused(from, to, method, header, error),
      onLine: (node, message) => {
        const moment = MOMENTS.get(message);
        if (moment !== undefined) script.lines.push(`${node}       ${moment}`);
      },
      onCatalog: (catalog) => script.#told(catalog),
    });
    return script;
  }

  say(text: string): void {
    this.lines.push('', `# ${text}`);
  }

  /** Forgets what was told so far, or from that line on. */
  skip(from = 0): void {
    this.lines.length = from;
  }

  get text(): string {
    return `${this.lines.join('\n').trim()}\n`;
  }

  #told({ groups }: Catalog): void {
    const { epoch, primary, secondary, learners, lastActivated } = groups[0] as Group;
    if (this.#epochs.has(epoch)) return;
    this.#epochs.add(epoch);
    const state = lastActivated.epoch === epoch ? '' : ', not activated yet';
    const others = learners.join(' ') || 'none';
    this.lines.push(
      `catalog  epoch ${epoch}: primary ${primary}, secondary ${secondary ?? 'none'}, learners ${others}${state}`,
    );
  }

  #called(from: string, to: string, method: string, header: unknown, reply: unknown): void {
    const text = messageText(method, header, reply);
    const isBeacon = method === 'group.syncPush' && parseSyncPush(header).entries.length === 0;
    const pair = `${from} > ${to}`;
    if (isBeacon && this.#beacons.get(pair) === text) return;
    if (isBeacon) this.#beacons.set(pair, text);
    this.lines.push(`${from} > ${to}  ${text}`);
  }

  #refused(from: string, to: string, method: string, header: unknown, error: unknown): void {
    if (!(error instanceof TatamiError) || !REFUSALS.includes(error.code)) return;
    const what = method === 'group.syncPush' ? pushText(parseSyncPush(header)) : method.replace('group.', '');
    this.lines.push(`${from} > ${to}  ${what} -> refused: ${error.code}`);
  }
}

function endsText(ends: readonly (readonly [number, number])[]): string {
  return ends.map(([epoch, seq]) => `${seq}@${epoch}`).join(' ');
}

function pushText(push: SyncPush): string {
  const { prevSeq, prevEpoch, entries } = push;
  const last = entries.length > 1 ? `..${prevSeq + entries.length}@${entries.at(-1)!.epoch}` : '';
  const what = entries.length === 0 ? 'nothing' : `${prevSeq + 1}@${entries[0]!.epoch}${last}`;
  const flags = `${push.sync ? ', on disk' : ''}${push.copy ? ', take a full copy' : ''}`;
  return `SyncPush ${what} after ${prevSeq}@${prevEpoch}, committed ${push.committedSeq}${flags}`;
}

function messageText(method: string, header: unknown, reply: unknown): string {
  const answer = reply as Record<string, unknown>;
  switch (method) {
    case 'group.syncPush': {
      const text = pushText(parseSyncPush(header));
      const pushed = parseSyncPushReply(reply);
      if (pushed.status === 'logged') return `${text} -> logged ${pushed.lastSeq}`;
      if (pushed.status === 'mismatch') return `${text} -> mismatch, ends ${endsText(pushed.ends)}`;
      return `${text} -> copying`;
    }
    case 'group.tail': {
      const { fromSeq } = header as { fromSeq: number };
      const count = (answer['entries'] as unknown[]).length;
      return `Tail from ${fromSeq} -> ends ${endsText(answer['ends'] as never)}${count > 0 ? `, ${count} entries` : ''}`;
    }
    case 'group.syncPull': {
      const { cursor } = header as { cursor: unknown };
      const at = `${String(answer['appliedSeq'])}@${String(answer['appliedEpoch'])}`;
      const rows = (answer['items'] as unknown[]).length > 0 ? 'rows' : 'no rows';
      return `SyncPull ${cursor === null ? 'from the start' : 'goes on'} -> ${rows} of ${at}${answer['cursor'] === null ? ', the end' : ''}`;
    }
    case 'group.leave':
      return `Leave -> ${answer['replaced'] === true ? 'another takes its place' : 'nobody can take its place'}`;
    default:
      return `SecondaryQuery -> ${String(answer['answer'])}`;
  }
}
