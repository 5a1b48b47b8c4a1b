/**
 * Our connection to one node of the address book: made on demand, shared by all calls, made again in the background
 * while the node is down (nobody would call a node that is known to be down, so nobody would find out that it is back).
 */
import type { Address, Env, Timer } from '../env.ts';
import { PeerUnreachableError, TatamiError } from '../errors.ts';
import type { NodeId } from '../ids.ts';
import { CONNECT_TIMEOUT_MS } from '../limits.ts';
import { retryDelayMs } from './backoff.ts';
import type { RpcChannel } from './rpc.ts';
import type { News, PeerState } from './types.ts';

/** Calls to a peer that was just found unreachable wait this long for a retry under way, then fail. */
export const FAIL_FAST_MS = 100;

export interface PeerOptions {
  readonly env: Pick<Env, 'clock' | 'random'>;
  readonly dial: (address: Address, timeoutMs: number) => Promise<RpcChannel>;
  readonly onState: (id: NodeId, state: PeerState) => void;
}

interface Waiter {
  resolve(channel: RpcChannel): void;
  reject(error: TatamiError): void;
}

export class Peer {
  readonly id: NodeId;
  readonly #options: PeerOptions;
  #address: Address;
  #channel: RpcChannel | undefined;
  #state: PeerState = 'unknown';
  /** Failed attempts in a row since the last success. */
  #failureCount = 0;
  #retryAtMs = 0;
  #retryTimer: Timer | undefined;
  /** Number of the attempt under way; an attempt that is no longer the latest is thrown away. */
  #attempt = 0;
  #connecting = false;
  #lastError: TatamiError | undefined;
  #removed = false;
  readonly #waiters = new Set<Waiter>();
  /** The latest it told us, on any connection. */
  news: News | undefined;
  /** When a message of it was last received, on any connection. */
  heardMs: number | undefined;

  constructor(id: NodeId, address: Address, options: PeerOptions) {
    this.id = id;
    this.#address = address;
    this.#options = options;
  }

  get state(): PeerState {
    return this.#state;
  }
  get channel(): RpcChannel | undefined {
    return this.#channel;
  }

  /** An open connection. Rejects with PeerUnreachableError: soon, if the last attempt failed. */
  connected(timeoutMs: number): Promise<RpcChannel> {
    const open = this.#channel;
    if (open !== undefined && !open.closed) return Promise.resolve(open);
    if (this.#removed) return Promise.reject(this.#unreachable('it was removed from the address book'));
    const wasDown = this.#failureCount > 0;
    if (!this.#connecting) {
      if (wasDown && this.#options.env.clock.monotonicMs() < this.#retryAtMs) {
        return Promise.reject(this.#unreachable(this.#lastError?.message ?? 'the last attempt failed'));
      }
      this.#connect();
    }
    return this.#wait(Math.min(timeoutMs, wasDown ? FAIL_FAST_MS : CONNECT_TIMEOUT_MS));
  }

  /** It has just talked to us: if we held it to be down, look again at once. */
  seenAlive(): void {
    if (this.#state !== 'down' || this.#connecting || this.#removed) return;
    this.#connect();
  }

  /** It is about to close: make no new calls on that connection. */
  goingAway(channel: RpcChannel): void {
    if (this.#channel === channel) this.#lost('it is shutting down');
  }

  setAddress(address: Address): void {
    if (address === this.#address) return;
    this.#address = address;
    this.#drop();
    this.#failureCount = 0;
    this.#setState('unknown');
  }

  /** No longer in the address book. */
  remove(): void {
    this.#removed = true;
    this.#drop();
  }

  #drop(): void {
    this.#attempt += 1;
    this.#connecting = false;
    this.#retryTimer?.cancel();
    this.#retryTimer = undefined;
    const channel = this.#channel;
    this.#channel = undefined;
    channel?.close();
    this.#rejectWaiters(this.#unreachable('its address has changed or was removed'));
  }

  #connect(): void {
    this.#connecting = true;
    this.#retryTimer?.cancel();
    this.#retryTimer = undefined;
    this.#attempt += 1;
    const attempt = this.#attempt;
    this.#options.dial(this.#address, CONNECT_TIMEOUT_MS).then(
      (channel) => {
        if (attempt !== this.#attempt) {
          channel.close();
          return;
        }
        this.#connecting = false;
        if (channel.remote.nodeId === this.id) this.#connectedTo(channel);
        else {
          channel.close();
          const who = channel.remote.nodeId ?? 'a client';
          this.#failed(new PeerUnreachableError(`at ${this.#address} there is ${who}, not ${this.id}`));
        }
      },
      (error: unknown) => {
        if (attempt !== this.#attempt) return;
        this.#connecting = false;
        this.#failed(error instanceof TatamiError ? error : new PeerUnreachableError(String(error), { cause: error }));
      },
    );
  }

  #connectedTo(channel: RpcChannel): void {
    if (channel.closed) {
      this.#failed(channel.closedBy ?? new PeerUnreachableError('it closed the connection at once'));
      return;
    }
    this.#channel = channel;
    this.#failureCount = 0;
    this.#lastError = undefined;
    channel.onClose(() => {
      if (this.#channel === channel) this.#lost(channel.closedBy?.message ?? 'the connection was closed');
    });
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) waiter.resolve(channel);
    this.#setState('up');
  }

  #lost(reason: string): void {
    this.#channel = undefined;
    this.#failed(new PeerUnreachableError(`${this.id} at ${this.#address}: ${reason}`));
  }

  #failed(error: TatamiError): void {
    this.#failureCount += 1;
    this.#lastError = error;
    const { clock, random } = this.#options.env;
    const delayMs = retryDelayMs(this.#failureCount, random.below(1024) / 1024);
    this.#retryAtMs = clock.monotonicMs() + delayMs;
    this.#retryTimer?.cancel();
    this.#retryTimer = clock.setTimer(delayMs, () => {
      this.#retryTimer = undefined;
      if (!this.#connecting && this.#channel === undefined && !this.#removed) this.#connect();
    });
    this.#rejectWaiters(this.#unreachable(error.message));
    this.#setState('down');
  }

  #wait(timeoutMs: number): Promise<RpcChannel> {
    return new Promise((resolve, reject) => {
      const timer = this.#options.env.clock.setTimer(timeoutMs, () => {
        this.#waiters.delete(waiter);
        reject(this.#unreachable(this.#lastError?.message ?? 'no connection in time'));
      });
      const waiter: Waiter = {
        resolve: (channel) => {
          timer.cancel();
          resolve(channel);
        },
        reject: (error) => {
          timer.cancel();
          reject(error);
        },
      };
      this.#waiters.add(waiter);
    });
  }

  #rejectWaiters(error: TatamiError): void {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) waiter.reject(error);
  }

  #unreachable(reason: string): PeerUnreachableError {
    const cause = this.#lastError;
    return new PeerUnreachableError(`node ${this.id} (${this.#address}) cannot be reached: ${reason}`, {
      cause,
      info: { nodeId: this.id, address: this.#address },
      remedy: cause?.remedy ?? `Check that node ${this.id} runs and that ${this.#address} can be reached from here.`,
    });
  }

  #setState(state: PeerState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#options.onState(this.id, state);
  }
}
