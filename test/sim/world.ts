/**
 * A world of simulated hosts in this process: virtual time, chance from one seed, disks that forget, a network with
 * weather. The same seed gives the same run, event for event: `digest` tells.
 *
 * What runs in it must get time, chance, disk and sockets from its env alone and must have finished any real
 * asynchronous work (loading modules, WebAssembly) before.
 */
import type { Env } from '../../src/env.ts';
import { MemoryDisk, type DiskOp } from '../../src/env-memory.ts';
import { mortalDisk, mortalTransport, type Life } from '../../src/env-memory/mortal.ts';
import { SimNetwork, type Weather } from './network.ts';
import { SimRandom } from './random.ts';
import { SimClock, SimTime, type ClockError } from './time.ts';
import { Trace } from './trace.ts';
import { inTurns, turn } from './turns.ts';

export interface SimWorldOptions {
  readonly seed: number;
  /** How many (named n1, n2, ...), or their names. More come into being when they are asked for. */
  readonly hosts?: number | readonly string[];
  readonly weather?: Weather;
  /** Of each host's disk; default: no bound. */
  readonly capacityBytes?: number;
  /** Largest error of the hosts' clocks; each draws its own. Default: all clocks are right. */
  readonly clockError?: ClockError;
  /** Short writes take no time, as they mostly do in the page cache. */
  readonly writesNow?: boolean;
}

export interface CrashHostOptions {
  /**
   * `power` (default): the machine stops, unsynced data is lost or half lost, peers hear nothing.
   * `process`: only the program dies, as by kill -9; what it wrote stays, peers see their connections reset.
   */
  readonly kind?: 'power' | 'process';
  /** Unsynced batches of key-value stores survive in any order instead of the oldest first. */
  readonly anyKvOrder?: boolean;
}

export interface RunOptions {
  /** Virtual time after which waiting is given up. Default one minute. */
  readonly limitMs?: number;
  /** What is waited for, for the error's text. */
  readonly what?: string;
}

const DEFAULT_LIMIT_MS = 60_000;
/** Real turns of the event loop that a world with nothing left to happen is given before that counts as a deadlock. */
const DEADLOCK_TURNS = 50;

/** Milliseconds that operations of a disk take: at least, at most. */
const DISK_MS: Readonly<Record<'sync' | 'other', readonly [number, number]>> = { sync: [0.5, 4], other: [0.02, 0.2] };
const DISK_BYTES_PER_MS = 500_000;
const SYNCS: ReadonlySet<DiskOp> = new Set(['datasync', 'syncDir', 'kvSync']);

interface SimHost {
  readonly name: string;
  readonly disk: MemoryDisk;
  readonly random: SimRandom;
  readonly clockError: ClockError;
  processCount: number;
  bootCount: number;
  /** How much slower than usual its disk is. */
  slowness: number;
  /** While its process is stopped: what happens to it when it goes on, in order. */
  held: (() => void)[] | undefined;
  running: { readonly env: Env; readonly clock: SimClock; readonly life: Life } | undefined;
}

export function createSimWorld(options: SimWorldOptions): SimWorld {
  return new SimWorld(options);
}

export class SimWorld {
  readonly time = new SimTime();
  /** For the test itself: which host to crash, when. */
  readonly random: SimRandom;
  readonly network: SimNetwork;
  /** Looks at the world after every event. */
  afterEvent: (() => void) | undefined;
  readonly #options: SimWorldOptions;
  readonly #hosts = new Map<string, SimHost>();
  readonly #trace = new Trace();
  #eventCount = 0;

  constructor(options: SimWorldOptions) {
    this.#options = options;
    this.random = new SimRandom(options.seed);
    this.network = new SimNetwork(this.time, this.random.fork('network'), options.weather);
    const hosts = options.hosts ?? 0;
    const names = typeof hosts === 'number' ? Array.from({ length: hosts }, (_, index) => `n${index + 1}`) : hosts;
    for (const name of names) this.#host(name);
    this.network.gate = (name, work) => this.#reach(this.#host(name), work);
  }

  get hostNames(): string[] {
    return [...this.#hosts.keys()];
  }

  /** The world as the process on this host sees it; started if it does not run. */
  envOf(name: string): Env {
    const host = this.#host(name);
    host.running ??= this.#boot(host);
    return host.running.env;
  }

  diskOf(name: string): MemoryDisk {
    return this.#host(name).disk;
  }

  isRunning(name: string): boolean {
    return this.#host(name).running !== undefined;
  }

  /** Stops a host at this instant, wherever it is. The next `envOf` (or `restartHost`) starts it anew. */
  crashHost(name: string, { kind = 'power', anyKvOrder = false }: CrashHostOptions = {}): void {
    const host = this.#host(name);
    this.log(`${name} crash ${kind}`);
    const { held = [] } = host;
    host.held = undefined;
    if (host.running) {
      host.running.life.dead = true;
      host.running.clock.die();
      host.running = undefined;
    }
    if (kind === 'power') {
      host.bootCount++;
      this.network.memory.darken(name);
      host.disk.crash({ random: host.random, anyKvOrder });
    } else {
      this.network.memory.killHost(name);
      host.disk.killProcess();
    }
    // The dead notice nothing; their machine answers for them.
    for (const work of held) work();
  }

  /**
   * The process on this host stops for a while, as by SIGSTOP; then all that came meanwhile comes at once. `suspend`: its
   * machine sleeps, so that its monotonic clock stands still too.
   */
  pauseHost(name: string, { suspend = false } = {}): void {
    const host = this.#host(name);
    if (host.running === undefined) return;
    this.log(`${name} ${suspend ? 'suspend' : 'pause'}`);
    host.held ??= [];
    if (suspend) host.running.clock.sleepMachine();
  }

  resumeHost(name: string): void {
    const host = this.#host(name);
    const { held } = host;
    if (held === undefined) return;
    this.log(`${name} resume`);
    host.running?.clock.wakeMachine();
    host.held = undefined;
    // Each in a turn of its own, in the order in which they came; what comes now is not before them.
    const label = `${name} late`;
    for (const work of held) this.time.after(0, label, () => this.#reach(host, work));
  }

  isPaused(name: string): boolean {
    return this.#host(name).held !== undefined;
  }

  /** Makes a host's disk so many times slower than usual; 1: as usual. */
  slowDisk(name: string, slowness: number): void {
    this.log(`${name} disk ${slowness}`);
    this.#host(name).slowness = slowness;
  }

  #reach(host: SimHost, work: () => void): void {
    if (host.held === undefined) work();
    else host.held.push(work);
  }

  /** Power is back, a new process starts. */
  restartHost(name: string): Env {
    this.network.memory.relight(name);
    this.log(`${name} restart`);
    return this.envOf(name);
  }

  /** Somebody sets a host's clock. */
  stepClock(name: string, byMs: number): void {
    this.#host(name).running?.clock.stepWall(byMs);
  }

  /** A line of the trace, with the time. */
  log(line: string): void {
    this.#trace.note(this.time.nowMs, line);
  }

  /** The latest events, oldest first. */
  get trace(): readonly string[] {
    return this.#trace.lines();
  }

  get eventCount(): number {
    return this.#eventCount;
  }

  /** Of everything that happened so far. */
  get digest(): string {
    return this.#trace.digest;
  }

  /** Lets the given virtual time pass. */
  async run(forMs: number): Promise<void> {
    const untilMs = this.time.nowMs + forMs;
    await turn();
    await inTurns(() => {
      this.#settled();
      const nextMs = this.time.nextMs;
      return nextMs !== undefined && nextMs <= untilMs && this.#step();
    });
    this.time.skipTo(untilMs);
  }

  /** Lets time pass until the condition holds, which is looked at after every event. */
  async runUntil(condition: () => boolean, options: RunOptions = {}): Promise<void> {
    const limitMs = this.time.nowMs + (options.limitMs ?? DEFAULT_LIMIT_MS);
    const what = options.what ?? 'a condition';
    let idleTurns = 0;
    await turn();
    await inTurns(() => {
      this.#settled();
      if (condition()) return false;
      const nextMs = this.time.nextMs;
      if (nextMs === undefined) {
        if (++idleTurns > DEADLOCK_TURNS) throw this.#stuck(`deadlock: nothing is left to happen, waiting for ${what}`);
        return true;
      }
      if (nextMs > limitMs) throw this.#stuck(`${what} did not come within ${options.limitMs ?? DEFAULT_LIMIT_MS} ms`);
      idleTurns = 0;
      return this.#step();
    });
  }

  /** Lets time pass until the promise settles; its result. */
  async settle<T>(promise: Promise<T>, options: RunOptions = {}): Promise<T> {
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    await this.runUntil(() => settled, { what: 'a promise', ...options });
    return promise;
  }

  /** The next event; true. What comes of it at once has happened by the next turn. */
  #step(): boolean {
    const event = this.time.advance();
    if (event === undefined) return true;
    this.#eventCount++;
    this.#trace.event(this.time.nowMs, event.label, event.size);
    this.#unseen = true;
    return true;
  }

  /** All that an event has led to has happened. */
  #settled(): void {
    if (!this.#unseen) return;
    this.#unseen = false;
    this.afterEvent?.();
  }
  #unseen = false;

  #stuck(message: string): Error {
    const tail = this.trace.slice(-20).join('\n  ');
    return new Error(`seed ${this.#options.seed}, t=${this.time.nowMs} ms: ${message}\n  ${tail}`);
  }

  #host(name: string): SimHost {
    let host = this.#hosts.get(name);
    if (!host) {
      const random = this.random.fork(`host ${name}`);
      const { offsetMs = 0, drift = 0 } = this.#options.clockError ?? {};
      const { capacityBytes } = this.#options;
      const labels: Partial<Record<DiskOp, string>> = {};
      const delay = (op: DiskOp, bytes: number): Promise<void> => {
        const [least, most] = SYNCS.has(op) ? DISK_MS.sync : DISK_MS.other;
        const delayMs = (random.between(least, most) + bytes / DISK_BYTES_PER_MS) * made.slowness;
        return new Promise((resolve) =>
          this.time.after(delayMs, (labels[op] ??= `${name} disk ${op}`), () => this.#reach(made, resolve), bytes),
        );
      };
      const made: SimHost = {
        name,
        random,
        disk: new MemoryDisk({ delay, ...(capacityBytes === undefined ? {} : { capacityBytes }) }),
        clockError: { offsetMs: random.between(-offsetMs, offsetMs), drift: random.between(-drift, drift) },
        processCount: 0,
        bootCount: 0,
        slowness: 1,
        held: undefined,
        running: undefined,
      };
      host = made;
      this.#hosts.set(name, host);
    }
    return host;
  }

  #boot(host: SimHost): NonNullable<SimHost['running']> {
    const life: Life = { dead: false };
    const clock = new SimClock(this.time, host.name, host.clockError, (work) => this.#reach(host, work));
    const env: Env = {
      clock,
      random: host.random.fork(`boot ${host.processCount++}`),
      disk: mortalDisk(host.disk, life, { writesNow: this.#options.writesNow ?? false }),
      transport: mortalTransport(this.network.memory.transport(host.name), life),
      bootId: `${host.name} boot ${host.bootCount}`,
    };
    return { env, clock, life };
  }
}
