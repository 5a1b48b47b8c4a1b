/** Whether the peer of a connection is alive, and how far it is. Pure. */
import { PEER_DOWN_AFTER_MS, PING_INTERVAL_MS } from '../limits.ts';

export type LivenessStep =
  | { readonly kind: 'wait' }
  | { readonly kind: 'ping'; readonly id: number }
  | { readonly kind: 'dead'; readonly silentMs: number };

const WAIT: LivenessStep = { kind: 'wait' };

export class Liveness {
  #lastReceivedMs: number;
  #lastPingMs: number;
  #pingId = 0;
  /** When the latest ping was sent, until it is answered. */
  #pingSentMs: number | undefined;
  #rttMs: number | undefined;

  constructor(nowMs: number) {
    this.#lastReceivedMs = nowMs;
    this.#lastPingMs = nowMs;
  }

  /** Smoothed round trip. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  received(nowMs: number): void {
    this.#lastReceivedMs = nowMs;
  }

  /**
   * We did not run for a while (a stopped process, a starved machine): what came meanwhile is not read yet, so the
   * peer is asked before it is judged.
   */
  wasStalled(nowMs: number): void {
    this.#lastReceivedMs = Math.max(this.#lastReceivedMs, nowMs - PING_INTERVAL_MS);
  }

  tick(nowMs: number): LivenessStep {
    const silentMs = nowMs - this.#lastReceivedMs;
    if (silentMs >= PEER_DOWN_AFTER_MS) return { kind: 'dead', silentMs };
    if (silentMs < PING_INTERVAL_MS || nowMs - this.#lastPingMs < PING_INTERVAL_MS) return WAIT;
    this.#lastPingMs = nowMs;
    this.#pingSentMs = nowMs;
    this.#pingId = (this.#pingId + 1) >>> 0 || 1;
    return { kind: 'ping', id: this.#pingId };
  }

  /** When tick next has something to do, if nothing is received. */
  nextMs(nowMs: number): number {
    const pingMs = this.#lastReceivedMs + PING_INTERVAL_MS;
    if (pingMs > nowMs) return pingMs;
    return Math.min(this.#lastPingMs + PING_INTERVAL_MS, this.#lastReceivedMs + PEER_DOWN_AFTER_MS);
  }

  ponged(id: number, nowMs: number): void {
    if (this.#pingSentMs === undefined || id !== this.#pingId) return;
    this.addSample(nowMs - this.#pingSentMs);
    this.#pingSentMs = undefined;
  }

  /** A round trip of something small. */
  addSample(sampleMs: number): void {
    this.#rttMs = this.#rttMs === undefined ? sampleMs : this.#rttMs + (sampleMs - this.#rttMs) / 8;
  }
}
