/**
 * The weather between the hosts: latency, partitions, broken connections, lost, doubled and reordered datagrams.
 */
import { MemoryNetwork, type Parcel } from '../../src/env-memory.ts';
import type { SimRandom } from './random.ts';
import { SimClock, type SimTime } from './time.ts';

export interface Weather {
  /** One way; each parcel draws between the two. */
  readonly latencyMs: readonly [number, number];
  /** Of one direction of one stream. */
  readonly bytesPerMs: number;
  readonly datagramLoss: number;
  readonly datagramDuplication: number;
  /** Chance that a stream's bytes are cut at a place where nobody expects it. */
  readonly cut: number;
}

export const FAIR_WEATHER: Weather = {
  latencyMs: [0.1, 0.5],
  bytesPerMs: 1_000_000,
  datagramLoss: 0.01,
  datagramDuplication: 0.01,
  cut: 0.1,
};

interface Flow {
  readonly label: string;
  /** When the latest parcel of this flow arrives: none given later may arrive earlier. */
  lastArrivalMs: number;
  /** Parcels that wait for a partition to end, in order. */
  readonly held: { parcel: Parcel; deliver: () => void }[];
}

/** Datagrams may overtake each other by up to this. */
const REORDER_MS = 5;

export class SimNetwork {
  readonly memory: MemoryNetwork;
  readonly #time: SimTime;
  readonly #random: SimRandom;
  readonly #flows = new Map<number, Flow>();
  /** Pairs `from>to` over which nothing goes. */
  readonly #cut = new Set<string>();
  weather: Weather;
  /** Runs what arrives at a host, now or when its process runs again. */
  gate: (host: string, work: () => void) => void = (_host, work) => work();

  constructor(time: SimTime, random: SimRandom, weather: Weather = FAIR_WEATHER) {
    this.#time = time;
    this.#random = random;
    this.weather = weather;
    this.memory = new MemoryNetwork({
      clock: new SimClock(time, 'network'),
      carrier: (parcel, deliver) => this.#carry(parcel, deliver),
      pieceBytes: (available) =>
        this.#random.chance(this.weather.cut) ? 1 + this.#random.below(available) : available,
    });
  }

  /** Nothing goes between two hosts, or with `oneWay` from the first to the second. */
  partition(from: string, to: string, options: { readonly oneWay?: boolean } = {}): void {
    this.#cut.add(`${from}>${to}`);
    if (!options.oneWay) this.#cut.add(`${to}>${from}`);
  }

  /** Each host of one side loses each of the other. */
  partitionSides(one: readonly string[], other: readonly string[]): void {
    for (const from of one) for (const to of other) this.partition(from, to);
  }

  /** Ends all partitions, or those between two hosts. Streams go on with what they had to hold back. */
  heal(a?: string, b?: string): void {
    if (a === undefined || b === undefined) this.#cut.clear();
    else {
      this.#cut.delete(`${a}>${b}`);
      this.#cut.delete(`${b}>${a}`);
    }
    for (const flow of this.#flows.values()) {
      for (const { parcel, deliver } of flow.held.splice(0)) this.#carry(parcel, deliver);
    }
  }

  breakConnections(a: string, b: string): void {
    this.memory.breakConnections(a, b);
  }

  #carry(parcel: Parcel, deliver: () => void): void {
    const { latencyMs, bytesPerMs, datagramLoss, datagramDuplication } = this.weather;
    const isCut = this.#cut.size > 0 && this.#cut.has(`${parcel.from}>${parcel.to}`);
    const delayMs = this.#random.between(latencyMs[0], latencyMs[1]);
    const arrive = (): void => this.gate(parcel.to, deliver);
    if (parcel.flow === undefined) {
      if (isCut || this.#random.chance(datagramLoss)) return;
      const times = this.#random.chance(datagramDuplication) ? 2 : 1;
      const label = `datagram ${parcel.from}>${parcel.to}`;
      for (let count = 0; count < times; count++) {
        this.#time.after(delayMs + this.#random.between(0, REORDER_MS), label, arrive, parcel.bytes);
      }
      return;
    }
    let flow = this.#flows.get(parcel.flow);
    if (!flow) {
      flow = { label: `stream ${parcel.from}>${parcel.to}`, lastArrivalMs: 0, held: [] };
      this.#flows.set(parcel.flow, flow);
    }
    if (isCut) {
      flow.held.push({ parcel, deliver });
      return;
    }
    const startMs = Math.max(this.#time.nowMs + delayMs, flow.lastArrivalMs);
    flow.lastArrivalMs = startMs + parcel.bytes / bytesPerMs;
    this.#time.at(flow.lastArrivalMs, flow.label, arrive, parcel.bytes);
  }
}
