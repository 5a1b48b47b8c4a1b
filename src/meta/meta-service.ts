/**
 * A node's side of the metadata protocol: one member per group of the catalog, and the RPCs of clients and members
 * brought to it. Described in docs/protocol.md, "Metadata groups".
 */
import { Cancellation } from '../cancel.ts';
import type { CatalogService } from '../catalog/types.ts';
import { isFull } from '../disk-errors.ts';
import type { Env } from '../env.ts';
import { FormatError, SessionExpiredError, UnavailableError } from '../errors.ts';
import type { GroupId, NodeId, SessionId } from '../ids.ts';
import type { Logger } from '../log.ts';
import { MiB, SESSION_LEASE_MAX_MS } from '../limits.ts';
import type { HandlerReply, IncomingRequest, Network } from '../net/types.ts';
import { GroupMember } from './group/member.ts';
import type { GroupBounds } from './group/member-options.ts';
import { groupMethods } from './group/messages.ts';
import { parseSyncPush } from './group/push-codec.ts';
import type { GroupRules } from './group/rules.ts';
import { encodeOutcome, outcomeError } from './outcome.ts';
import { encodeQueryResult } from './query-codec.ts';
import { decodeLockWait, decodeMutateRequest, decodeQueryRequest, takeClientCommand } from './requests.ts';
import type { GroupStatus } from './types.ts';

export const metaMethods = {
  mutate: 'meta.mutate',
  query: 'meta.query',
  sync: 'meta.sync',
  openSession: 'meta.openSession',
  keepAlive: 'meta.keepAlive',
  endSession: 'meta.endSession',
  gcBarrier: 'meta.gcBarrier',
  waitForLock: 'meta.waitForLock',
} as const;

/** Of a disk that was full: enough for the log and the table to go on for a while. */
const ROOM_BYTES = 32 * MiB;
const ROOM_LOOK_MS = 2_000;

export interface MetaServiceOptions {
  readonly self: NodeId;
  readonly env: Env;
  readonly network: Network;
  readonly catalog: CatalogService;
  readonly directory: { groupPath(group: GroupId): string };
  readonly log: Logger;
  /** Bounds of the groups, for tests. */
  readonly bounds?: GroupBounds;
  readonly rules?: GroupRules;
}

export class MetaService {
  /** Resolves with the reason when a member met a broken rule or a failing disk. */
  readonly failed: Promise<Error>;
  readonly #o: MetaServiceOptions;
  readonly #members = new Map<string, GroupMember>();
  #fail: (error: Error) => void = () => undefined;
  #closed = false;
  readonly #closing = new Cancellation();

  private constructor(options: MetaServiceOptions) {
    this.#o = options;
    this.failed = new Promise((resolve) => (this.#fail = resolve));
  }

  /** Opens the groups and registers the handlers: call before `network.listen`. */
  static async open(options: MetaServiceOptions): Promise<MetaService> {
    const service = new MetaService(options);
    try {
      for (const { id } of options.catalog.current().groups) await service.#openGroup(id);
    } catch (error) {
      await service.close();
      throw error;
    }
    service.#register();
    return service;
  }

  /** After the network listens. */
  start(): void {
    for (const member of this.#members.values()) member.start();
  }

  status(): GroupStatus[] {
    return [...this.#members.values()].map((member) => member.status());
  }

  member(group: GroupId): GroupMember | undefined {
    return this.#members.get(group);
  }

  /** Before an orderly end: groups whose primary is here are handed to their secondaries, where that can be. */
  async leave(): Promise<void> {
    await Promise.all([...this.#members.values()].map((member) => member.leave()));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#closing.abort();
    await Promise.all([...this.#members.values()].map((member) => member.close()));
  }

  async #openGroup(group: GroupId, setAside = false): Promise<void> {
    const { self, env, network, catalog, directory, log, bounds, rules } = this.#o;
    const path = directory.groupPath(group);
    const member = await GroupMember.open({
      self,
      group,
      env,
      network,
      catalog,
      path,
      log,
      onFatal: (error) => this.#stopped(group, error),
      onReopen: (aside) => void this.#reopen(group, aside).catch((error: Error) => this.#stopped(group, error)),
      setAside,
      ...(bounds === undefined ? {} : { bounds }),
      ...(rules === undefined ? {} : { rules }),
    });
    this.#members.set(group, member);
  }

  /** A disk that is full is no reason to stop the whole node, whose blocks can be read; other members take over meanwhile. */
  #stopped(group: GroupId, error: Error): void {
    if (isFull(error)) void this.#reopenWithRoom(group).catch(this.#fail);
    else this.#fail(error);
  }

  async #reopenWithRoom(group: GroupId): Promise<void> {
    const { env, directory, log } = this.#o;
    log.error(
      { group, remedy: 'Make room on that disk: what fills it is not tatamifs alone, which keeps a reserve.' },
      'the disk is full: this node takes the group up again once there is room',
    );
    const stopped = this.#members.get(group);
    for (;;) {
      await env.clock.sleep(ROOM_LOOK_MS, this.#closing.signal).catch(() => undefined);
      const member = this.#members.get(group);
      if (this.#closed || (member !== undefined && member !== stopped)) return;
      const { freeBytes } = await env.disk.space(directory.groupPath(group));
      if (freeBytes < ROOM_BYTES) continue;
      try {
        await stopped?.noteLogFailed();
        await this.#reopen(group, false);
      } catch (error) {
        if (!isFull(error)) throw error;
      }
    }
  }

  async #reopen(group: GroupId, setAside: boolean): Promise<void> {
    if (this.#closed || this.#reopening.has(group)) return;
    this.#reopening.add(group);
    try {
      const old = this.#members.get(group);
      this.#members.delete(group);
      await old?.close();
      await this.#openGroup(group, setAside);
    } finally {
      this.#reopening.delete(group);
    }
    if (this.#closed) await this.#members.get(group)?.close();
    else this.#members.get(group)?.start();
  }
  readonly #reopening = new Set<GroupId>();

  #register(): void {
    const { network } = this.#o;
    network.handle(metaMethods.mutate, (request) => this.#mutate(request));
    network.handle(metaMethods.query, (request) => this.#query(request));
    network.handle(metaMethods.sync, async (request) => {
      await this.#of(request).sync();
      return { header: null };
    });
    network.handle(metaMethods.waitForLock, async (request) => {
      const { group, ino, wanted } = decodeLockWait(request.header);
      return { header: { state: await this.#member(group).waitForLock(ino, wanted, request.signal) } };
    });
    network.handle(metaMethods.openSession, (request) => this.#openSession(request));
    network.handle(metaMethods.keepAlive, (request) => this.#keepAlive(request));
    network.handle(metaMethods.endSession, async (request) => {
      await this.#of(request).proposeCommand({ kind: 'expireSession', session: sessionOf(request) });
      return { header: null };
    });
    network.handle(metaMethods.gcBarrier, async (request) => {
      const generation = integer(fieldsOf(request)['generation'], 'generation');
      await this.#of(request).proposeCommand({ kind: 'gcBarrier', generation });
      return { header: null };
    });
    network.handle(groupMethods.syncPush, (request) => {
      const push = parseSyncPush(request.header);
      return this.#member(push.group).handlePush(push, request);
    });
    network.handle(groupMethods.tail, (request) => this.#of(request).handleTail(request));
    network.handle(groupMethods.syncPull, (request) => this.#of(request).handlePull(request));
    network.handle(groupMethods.secondaryQuery, (request) => this.#of(request).handleQuery(request));
    network.handle(groupMethods.copyState, async (request) => ({ header: await this.#of(request).copyState() }));
    network.handle(groupMethods.force, async (request) => {
      const epoch = integer(fieldsOf(request)['expectedEpoch'], 'expectedEpoch');
      return { header: { epoch: await this.#of(request).force(epoch) } };
    });
    network.handle(groupMethods.leave, (request) => this.#of(request).handleLeave(request));
    network.handle(groupMethods.status, () => ({ header: this.status() }));
  }

  #of(request: IncomingRequest): GroupMember {
    return this.#member(fieldsOf(request)['group']);
  }

  #member(group: unknown): GroupMember {
    const member = typeof group === 'string' ? this.#members.get(group) : undefined;
    if (member === undefined) throw new UnavailableError(`this node has no group ${String(group).slice(0, 64)}`);
    return member;
  }

  #mutate(request: IncomingRequest): Promise<HandlerReply> {
    const { group, bytes } = decodeMutateRequest(request.header);
    const member = this.#member(group);
    const command = takeClientCommand(bytes, member.nowNs());
    member.heardOfSession(command.session);
    return member.propose(bytes, command).then((outcome) => ({ header: encodeOutcome(outcome) }));
  }

  #query(request: IncomingRequest): Promise<HandlerReply> | HandlerReply {
    const { group, query } = decodeQueryRequest(request.header);
    const result = this.#member(group).query<typeof query.op>(query);
    if (!(result instanceof Promise)) return { header: encodeQueryResult(query.op, result) };
    return result.then((later) => ({ header: encodeQueryResult(query.op, later) }));
  }

  async #openSession(request: IncomingRequest): Promise<HandlerReply> {
    const member = this.#of(request);
    const fields = fieldsOf(request);
    const session = sessionOf(request);
    const leaseMs = Math.min(integer(fields['leaseMs'], 'leaseMs'), SESSION_LEASE_MAX_MS);
    const label = typeof fields['label'] === 'string' ? fields['label'].slice(0, 255) : '';
    member.heardOfSession(session);
    const nowNs = member.nowNs();
    const answers = fields['answersForOrphans'] === true && { answers: true as const };
    const outcome = await member.proposeCommand({ kind: 'openSession', session, nowNs, leaseMs, label, ...answers });
    if (!outcome.ok) throw outcomeError(outcome.code);
    return { header: null };
  }

  #keepAlive(request: IncomingRequest): HandlerReply {
    const member = this.#of(request);
    const session = sessionOf(request);
    // It alone keeps sessions alive; whoever asks another is told, and asks again.
    member.requirePrimary();
    if (member.status().serving && !member.hasSession(session)) {
      throw new SessionExpiredError('this session is unknown to the group or has expired', {
        remedy:
          'A mount begins another by itself and goes on; what it had not yet written is lost, and named in its log.',
      });
    }
    member.heardOfSession(session);
    const orphansAfter = member.orphansOwedAfter(session);
    return { header: { serving: member.status().serving, ...(orphansAfter !== undefined && { orphansAfter }) } };
  }
}

function fieldsOf(request: IncomingRequest): Readonly<Record<string, unknown>> {
  const { header } = request;
  if (typeof header === 'object' && header !== null) return header as Record<string, unknown>;
  throw new FormatError(`${request.method}: not a message of this protocol`);
}

function integer(value: unknown, name: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new FormatError(`${name} must be a whole number, not negative`);
}

function sessionOf(request: IncomingRequest): SessionId {
  const { session } = fieldsOf(request);
  if (typeof session === 'string' && /^[0-9a-f]{32}$/.test(session)) return session as SessionId;
  throw new FormatError('session must be 32 hexadecimal characters');
}
