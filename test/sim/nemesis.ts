/**
 * What goes wrong in a simulated cluster, drawn from a seed: which kinds of trouble there are at all, and then what
 * happens when, to whom. Everything ends when it is told to.
 */
import { GRACE_MS } from '../../src/meta/group/lease.ts';
import { proposeUntilChosen } from '../../src/catalog/replica.ts';
import type { Catalog } from '../../src/catalog/types.ts';
import type { NodeId } from '../../src/ids.ts';
import { hostOf } from '../../src/testing.ts';
import type { SimCluster } from './cluster.ts';
import { FAIR_WEATHER } from './network.ts';
import type { SimRandom } from './random.ts';

export const TROUBLES = [
  'kill',
  'killMany',
  'stop',
  'drain',
  'power',
  /** All at once. Only where nothing but what was synced is to survive. */
  'blackout',
  'partition',
  'isolate',
  'oneWay',
  'breakConnections',
  'pause',
  'suspend',
  'slowDisk',
  'fullDisk',
  'stepClock',
  'slowNetwork',
  /** No trouble by itself: one more machine joins, among all the others. */
  'join',
  'ambush',
] as const;
/** `cutOffProposer`: only where it is named; the rest of the draws stays what it was without it. */
export type Trouble = (typeof TROUBLES)[number] | 'cutOffProposer';

export interface NemesisOptions {
  readonly troubles: readonly Trouble[];
  /** So many there are to be at the end at least; and two more at most. */
  readonly nodes: number;
  /** Clients' names (c1...): they are cut off too. */
  readonly clients: readonly string[];
  /** Whether this node may lose its power now without taking anything acknowledged with it. */
  readonly mayLosePower: (id: string) => boolean;
  /** Longest pause between two troubles. */
  readonly pauseMs: number;
  /** Told in words what happens. */
  readonly note: (text: string) => void;
  /** Whether a secondary has taken over yet. Where given, the nemesis sees to it that one does. */
  readonly hasFailedOver?: () => boolean;
  /** Ends the trouble early. */
  readonly isEnough: () => boolean;
}

/** What makes a secondary take over, if it lasts. */
export const DEPOSING = ['kill', 'power', 'isolate', 'pause'] as const satisfies readonly Trouble[];
/** Where nobody has taken over by then (a part of the time, drawn), the primary is deposed on purpose. */
const DEPOSE_AFTER: readonly [number, number] = [0.3, 0.6];
/** Of troubles that make no difference to who is primary, before and while it is deposed. */
const QUIET_MS: readonly [number, number] = [500, 3_000];
/** Longer than grace, the promotion and the next secondary's catch-up usually take. */
const DEPOSED_MS: readonly [number, number] = [GRACE_MS + 2_000, 10_000];

/** Longest that one trouble lasts: some longer than lease and grace, and than a connection is given up. */
const TROUBLE_MS: readonly [number, number] = [50, 8_000];
/** What nodes log when the members of the group are about to change, or have changed. */
const PROPOSAL = 'asking for another secondary';
const MOMENTS = ['the primary is silent', PROPOSAL, 'handing the group over', 'catalog ', 'took over entries'];
/** Chance that the primary stops for a while just when a push to the secondary has left, and its answer not yet come. */
const STOP_AT_PUSH = 0.004;
const STOPPED_AT_PUSH_MS: readonly [number, number] = [500, 4_000];
/**
 * Cut off as it proposes: longer than grace, and mostly longer than it takes until others finish what it has begun and
 * then miss it.
 */
/** A proposal is on its way to the voters, or its answers are. */
const CHOSEN_AFTER_MS: readonly [number, number] = [0.2, 3];
const ISOLATED_MS: readonly [number, number] = [GRACE_MS + 500, 10_000];
const START_RETRY_MS = 500;
/** Nodes that join beyond the number that there is to be. */
const EXTRA_NODES = 2;
/** What a node that is about to join may be refused with: it must reach a node and a majority of the voters. */
const NOT_NOW: ReadonlySet<string> = new Set(['ERR_UNAVAILABLE', 'ERR_PEER_UNREACHABLE', 'ERR_TIMEOUT']);
/** Room that a full disk still has. */
const ROOM_BYTES = 4_096;

export class Nemesis {
  readonly #sim: SimCluster;
  readonly #o: NemesisOptions;
  readonly #random: SimRandom;
  /** What undoes the troubles of this moment. */
  readonly #ends = new Set<() => void>();
  readonly #starting = new Map<string, number>();
  readonly #full = new Set<string>();
  /** Not of the cluster yet. */
  readonly #joining = new Set<string>();
  /** Nodes that are ending in order. */
  readonly #stopping = new Set<string>();
  #drained: string | undefined;
  readonly counts = new Map<Trouble, number>();
  /** A node that does not start although nothing keeps it from it. */
  readonly surprises: string[] = [];
  #over = false;
  #isAmbushing = false;
  #startCount = 0;

  constructor(sim: SimCluster, random: SimRandom, options: NemesisOptions) {
    this.#sim = sim;
    this.#o = options;
    this.#random = random;
  }

  isFull(id: string): boolean {
    return this.#full.has(id);
  }

  /** Makes trouble for so long. */
  async run(forMs: number): Promise<void> {
    const { world } = this.#sim;
    this.#isAmbushing = this.#o.troubles.includes('ambush');
    const cutsProposers = this.#o.troubles.includes('cutOffProposer');
    this.#sim.onLine = (message) => {
      if (this.#isAmbushing) this.#lieInWait(message);
      if (cutsProposers) this.#cutOffProposer(message);
    };
    const startMs = world.time.nowMs;
    const untilMs = startMs + forMs;
    const deposeMs = startMs + forMs * this.#random.between(...DEPOSE_AFTER);
    while (world.time.nowMs < untilMs && !this.#o.isEnough()) {
      if (world.time.nowMs >= deposeMs && this.#o.hasFailedOver?.() === false) {
        await this.#depose();
        continue;
      }
      await world.run(Math.min(this.#random.between(0, this.#o.pauseMs), untilMs - world.time.nowMs));
      if (world.time.nowMs >= untilMs) break;
      const { troubles } = this.#o;
      const trouble = troubles[this.#random.below(troubles.length)]!;
      this.#cause(trouble);
      this.#count(trouble);
    }
    this.end();
  }

  /** Everything is in order again; nodes that are down start. */
  end(): void {
    this.#over = true;
    for (const end of [...this.#ends]) end();
    this.#sim.world.network.heal();
    if (this.#o.troubles.includes('join')) while (this.#sim.cluster.nodeIds.length < this.#o.nodes) this.#join();
    for (const id of this.#sim.cluster.nodeIds) this.#start(id);
  }

  /** Everything in order, and then the primary gone for long. */
  async #depose(): Promise<void> {
    const { world } = this.#sim;
    for (const end of [...this.#ends]) end();
    await world.run(this.#random.between(...QUIET_MS));
    if (this.#sim.nodes().length === 0) return;
    const { primary } = this.#sim.group();
    const lastsMs = this.#random.between(...DEPOSED_MS);
    const possible = DEPOSING.filter((trouble) => this.#o.troubles.includes(trouble));
    const trouble = possible[this.#random.below(Math.max(1, possible.length))] ?? 'kill';
    this.#count(trouble);
    if (trouble === 'pause') this.#pause(hostOf(primary), lastsMs);
    else if (trouble === 'isolate') this.#isolate(primary, lastsMs);
    else if (trouble === 'kill' || !this.#losePower(primary, lastsMs)) this.kill(primary, lastsMs);
    await world.run(lastsMs);
  }

  #count(trouble: Trouble): void {
    this.counts.set(trouble, (this.counts.get(trouble) ?? 0) + 1);
  }

  /** Trouble at the very moment when the group changes, which chance alone would seldom meet. */
  #lieInWait(message: string): void {
    if (this.#over || !MOMENTS.some((moment) => message.startsWith(moment)) || !this.#random.chance(0.35)) return;
    // What a primary proposes may be chosen without its hearing of it: for that it must be cut off within a few milliseconds.
    const isProposal = message.startsWith(PROPOSAL);
    const mostMs = isProposal || this.#random.chance(0.5) ? 10 : 200;
    const delayMs = this.#random.chance(0.2) ? 0 : this.#random.between(0, mostMs);
    this.#later(delayMs, () => {
      if (this.#over || this.#sim.nodes().length === 0) return;
      const { primary, secondary } = this.#sim.group();
      const lastsMs = this.#random.between(20, this.#random.chance(0.5) ? 600 : 6_000);
      const victim = secondary !== null && this.#random.chance(0.5) ? secondary : primary;
      if (isProposal && this.#random.chance(0.5)) return this.#isolate(primary, this.#random.between(...ISOLATED_MS));
      const blow = this.#random.below(8);
      if (blow === 0) this.kill(victim, lastsMs);
      else if (blow <= 2) this.#losePower(victim, lastsMs);
      else if (blow === 3) this.#pause(hostOf(victim), lastsMs);
      else if (blow === 4 && secondary !== null) this.#cut([primary], [secondary], this.#random.chance(0.5), lastsMs);
      else if (blow === 5) this.#isolate(victim, lastsMs);
      else if (blow === 6) for (const end of [...this.#ends]) end();
      else this.#slowDown(lastsMs);
    });
  }

  /** What it proposes is chosen, and it does not hear of it; clients still reach it. */
  #cutOffProposer(message: string): void {
    if (this.#over || !message.startsWith(PROPOSAL) || !this.#random.chance(0.8)) return;
    this.#later(this.#random.between(...CHOSEN_AFTER_MS), () => {
      if (this.#over || this.#sim.nodes().length === 0) return;
      const { primary } = this.#sim.group();
      const others = this.#sim.cluster.nodeIds.filter((id) => id !== primary);
      this.#cut([primary], others, false, this.#random.between(...ISOLATED_MS));
    });
  }

  /** Told of each push as it leaves. An answer from before is the first that a process finds which was stopped. */
  pushed(from: string, to: string): void {
    if (this.#over || !this.#isAmbushing || !this.#random.chance(STOP_AT_PUSH)) return;
    if (to !== this.#sim.group().secondary || this.#sim.world.isPaused(hostOf(from))) return;
    const lastsMs = this.#random.between(...STOPPED_AT_PUSH_MS);
    // Not in the middle of what it does.
    this.#later(0, () => this.#pause(hostOf(from), lastsMs));
  }

  #cause(trouble: Trouble): void {
    const { world } = this.#sim;
    const lastsMs = this.#random.chance(0.4)
      ? this.#random.between(TROUBLE_MS[0], TROUBLE_MS[1] / 5)
      : this.#random.between(...TROUBLE_MS);
    switch (trouble) {
      case 'kill':
        return this.kill(this.#victim(), lastsMs);
      case 'killMany': {
        const ids = this.#some(this.#sim.cluster.nodeIds);
        for (const id of ids) this.kill(id, this.#random.between(0, lastsMs));
        return;
      }
      case 'stop':
        return this.#stop(this.#victim(), lastsMs);
      case 'drain':
        return this.#drain(this.#victim(), lastsMs);
      case 'power':
        this.#losePower(this.#victim(), lastsMs);
        return;
      case 'blackout':
        for (const id of this.#sim.cluster.nodeIds) this.#losePower(id, this.#random.between(0, lastsMs));
        return;
      case 'partition': {
        const hosts = this.#everybody();
        const one = new Set(this.#some(hosts));
        const other = hosts.filter((id) => !one.has(id));
        return this.#cut([...one], other, false, lastsMs);
      }
      case 'isolate':
        return this.#isolate(this.#victim(), lastsMs);
      case 'oneWay': {
        const id = this.#victim();
        const others = this.#some(this.#everybody().filter((other) => other !== id));
        return this.#random.chance(0.5)
          ? this.#cut([id], others, true, lastsMs)
          : this.#cut(others, [id], true, lastsMs);
      }
      case 'breakConnections': {
        const hosts = this.#everybody();
        for (let count = 1 + this.#random.below(6); count > 0; count--) {
          world.network.breakConnections(hostOf(this.#pick(hosts)), hostOf(this.#pick(hosts)));
        }
        return;
      }
      case 'pause':
      case 'suspend':
        return this.#pause(hostOf(this.#victim()), lastsMs, trouble === 'suspend');
      case 'slowDisk': {
        const host = hostOf(this.#victim());
        world.slowDisk(host, 2 ** this.#random.between(1, 8));
        return this.#later(lastsMs, () => world.slowDisk(host, 1));
      }
      case 'fullDisk':
        return this.#fill(this.#victim(), lastsMs);
      case 'stepClock': {
        const sizeMs = 10 ** this.#random.between(0, 6.5);
        const id = this.#victim();
        const byMs = this.#random.chance(0.5) ? sizeMs : -sizeMs;
        // A machine that sleeps sets no clock.
        if (world.isPaused(hostOf(id))) return;
        this.#note(`${id} sets its clock by ${byMs.toFixed(0)} ms`);
        return world.stepClock(hostOf(id), byMs);
      }
      case 'slowNetwork':
        return this.#slowDown(lastsMs);
      case 'join':
        if (this.#sim.cluster.nodeIds.length < this.#o.nodes + EXTRA_NODES) this.#join();
        return;
      case 'cutOffProposer':
      case 'ambush':
        // It comes when the time is ripe.
        return;
    }
  }

  #note(text: string): void {
    this.#sim.world.log(text);
    this.#o.note(text);
  }

  /** Ends the node's process at this instant, and starts it again later. */
  kill(id: string, downMs: number): void {
    const { world, cluster } = this.#sim;
    this.#note(`${id} is killed`);
    this.#starting.delete(id);
    this.#stopping.delete(id);
    cluster.kill(id);
    // One that is just starting is no node of the cluster yet.
    if (world.isRunning(hostOf(id))) world.crashHost(hostOf(id), { kind: 'process' });
    this.#later(downMs, () => this.#start(id));
  }

  /** As somebody who wants to start it anew: it hands over what it is, closes and ends. */
  #stop(id: string, downMs: number): void {
    const { cluster } = this.#sim;
    if (cluster.node(id) === undefined || this.#stopping.has(id)) return;
    this.#note(`${id} is stopped`);
    this.#stopping.add(id);
    void cluster.stopNode(id).then(() => {
      if (this.#stopping.has(id)) this.kill(id, this.#over ? 0 : downMs);
    });
  }

  /** One at a time, and at the end none. */
  #drain(id: string, lastsMs: number): void {
    if (this.#drained !== undefined) return;
    this.#drained = id;
    this.#note(`${id} is drained`);
    const begun = this.#setDraining(id, true);
    this.#later(lastsMs, () => {
      this.#note(`${id} is not drained any more`);
      // Not before it is known whether it was begun: what is chosen late would stay.
      void begun.then(() => this.#setDraining(id, false));
    });
  }

  /** Resolves once it is so; or, for a beginning, once it was tried. */
  async #setDraining(id: string, draining: boolean): Promise<void> {
    const isSo = ({ nodes }: Catalog): boolean =>
      (nodes.find((each) => each.id === id)?.draining === true) === draining;
    const change = { kind: 'setDraining', id: id as NodeId, draining } as const;
    for (;;) {
      const [node] = this.#sim.nodes();
      if (node !== undefined) {
        try {
          await proposeUntilChosen(node.catalog, (catalog) => (isSo(catalog) ? undefined : change), 5_000);
          if (!draining) this.#drained = undefined;
          return;
        } catch {
          // What could not be undone is undone in the end; what could not be begun need not be.
          if (draining) return;
        }
      }
      await new Promise<void>((resolve) => void this.#sim.world.time.after(START_RETRY_MS, 'nemesis', resolve));
    }
  }

  /** False: it may not now. */
  #losePower(id: string, downMs: number): boolean {
    if (!this.#o.mayLosePower(id)) return false;
    this.#note(`${id} loses its power`);
    this.#starting.delete(id);
    this.#stopping.delete(id);
    this.#sim.crash(id, { kind: 'power', anyKvOrder: this.#random.chance(0.3) });
    this.#later(downMs, () => this.#start(id));
    return true;
  }

  #pause(host: string, lastsMs: number, suspend = false): void {
    this.#note(`${host} ${suspend ? 'sleeps' : 'pauses'}`);
    this.#sim.world.pauseHost(host, { suspend });
    this.#later(lastsMs, () => {
      this.#note(`${host} goes on`);
      this.#sim.world.resumeHost(host);
    });
  }

  /** From the other nodes, and from some of the clients. */
  #isolate(id: string, lastsMs: number): void {
    const others = this.#sim.cluster.nodeIds.filter((other) => other !== id);
    const near = new Set(this.#some(this.#o.clients));
    const far = this.#o.clients.filter((client) => !near.has(client));
    this.#cut([id], [...others, ...(this.#random.chance(0.7) ? far : [])], false, lastsMs);
  }

  #join(): void {
    const id = this.#sim.cluster.addNode();
    this.#note(`${id} joins`);
    this.#joining.add(id);
    this.#start(id);
  }

  #slowDown(lastsMs: number): void {
    const { network } = this.#sim.world;
    network.weather = { ...FAIR_WEATHER, latencyMs: [0.1, 10 ** this.#random.between(0, 2.7)] };
    this.#later(lastsMs, () => (network.weather = FAIR_WEATHER));
  }

  #fill(id: string, lastsMs: number): void {
    const disk = this.#sim.world.diskOf(hostOf(id));
    this.#full.add(id);
    disk.setCapacity(disk.usedBytes + this.#random.below(ROOM_BYTES));
    this.#note(`${id} full`);
    this.#later(lastsMs, () => {
      disk.setCapacity(Infinity);
      this.#full.delete(id);
      // What happened to it meanwhile ends with a new process, as somebody who makes room would start it.
      this.kill(id, 100);
    });
  }

  #cut(from: readonly string[], to: readonly string[], oneWay: boolean, lastsMs: number): void {
    const { network } = this.#sim.world;
    this.#note(`cut ${from.join()} ${oneWay ? '>' : '|'} ${to.join()}`);
    for (const a of from) for (const b of to) network.partition(hostOf(a), hostOf(b), { oneWay });
    this.#later(lastsMs, () => {
      this.#note(`heal ${from.join()} ${to.join()}`);
      for (const a of from) for (const b of to) network.heal(hostOf(a), hostOf(b));
    });
  }

  /** Starts it unless it runs, again and again. */
  #start(id: string): void {
    const { world, cluster } = this.#sim;
    if (cluster.node(id) !== undefined || this.#starting.has(id) || this.#stopping.has(id)) return;
    const attempt = ++this.#startCount;
    this.#starting.set(id, attempt);
    this.#note(`${id} starts`);
    world.restartHost(hostOf(id));
    cluster.startNode(id).then(
      () => {
        if (this.#starting.get(id) !== attempt) return;
        this.#starting.delete(id);
        this.#joining.delete(id);
      },
      (error: unknown) => {
        if (this.#starting.get(id) !== attempt) return;
        this.#starting.delete(id);
        const code = (error as { code?: string }).code;
        const isExpected = this.#full.has(id) || (this.#joining.has(id) && NOT_NOW.has(String(code)));
        if (!isExpected) this.surprises.push(`${id} does not start: ${String(error)} (${String(code)})`);
        this.kill(id, START_RETRY_MS);
      },
    );
  }

  #later(delayMs: number, work: () => void): void {
    const end = (): void => {
      if (!this.#ends.delete(end)) return;
      timer.cancel();
      work();
    };
    this.#ends.add(end);
    const timer = this.#sim.world.time.after(this.#over ? 0 : delayMs, 'nemesis', end);
  }

  /** Mostly one of those that matter most. */
  #victim(): string {
    const { nodeIds } = this.#sim.cluster;
    const group = this.#sim.nodes().length > 0 ? this.#sim.group() : undefined;
    if (group !== undefined && this.#random.chance(0.45)) return group.primary;
    if (group?.secondary && this.#random.chance(0.5)) return group.secondary;
    return this.#pick(nodeIds);
  }

  #everybody(): string[] {
    return [...this.#sim.cluster.nodeIds, ...this.#o.clients];
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random.below(from.length)]!;
  }

  /** At least one, mostly not all. */
  #some<T>(from: readonly T[]): T[] {
    const chosen = from.filter(() => this.#random.chance(0.4));
    return chosen.length > 0 || from.length === 0 ? chosen : [this.#pick(from)];
  }
}
