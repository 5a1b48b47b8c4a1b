/** Machines of their own for benchmarks: network namespaces on a bridge, each with an uplink of a given speed. Needs root. */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';

export type HostProcess = ChildProcessByStdio<Writable, Readable, null>;

export class NetHosts {
  readonly #id = process.pid % 250;
  readonly #bridge = `tb${this.#id}`;
  readonly #count: number;

  /** Hosts 1 to `count`. Call `destroy` in the end, whatever happens. */
  constructor(count: number, uplinkMegabitsPerSecond: number) {
    this.#count = count;
    try {
      ip('link', 'add', this.#bridge, 'type', 'bridge');
      ip('addr', 'add', `10.79.${this.#id}.254/24`, 'dev', this.#bridge);
      ip('link', 'set', this.#bridge, 'up');
      for (let host = 1; host <= count; host++) {
        const name = this.#name(host);
        ip('netns', 'add', name);
        ip('link', 'add', this.#link(host), 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
        ip('link', 'set', this.#link(host), 'master', this.#bridge, 'up');
        ip('-n', name, 'addr', 'add', `${this.address(host)}/24`, 'dev', 'eth0');
        ip('-n', name, 'link', 'set', 'eth0', 'up');
        ip('-n', name, 'link', 'set', 'lo', 'up');
        const shape = ['rate', `${uplinkMegabitsPerSecond}mbit`, 'burst', '512kb', 'latency', '100ms'];
        execFileSync('tc', ['-n', name, 'qdisc', 'add', 'dev', 'eth0', 'root', 'tbf', ...shape]);
      }
    } catch (error) {
      this.destroy();
      throw error;
    }
  }

  address(host: number): string {
    return `10.79.${this.#id}.${host}`;
  }

  #name(host: number): string {
    return `${this.#bridge}-h${host}`;
  }

  #link(host: number): string {
    return `${this.#bridge}-w${host}`;
  }

  /** Runs a Node program on the host. */
  spawn(host: number, ...args: string[]): HostProcess {
    const command = ['netns', 'exec', this.#name(host), process.execPath, ...args];
    return spawn('ip', command, { stdio: ['pipe', 'pipe', 'inherit'] });
  }

  /** What the host has sent since it was made. */
  sentBytes(host: number): number {
    return Number(readFileSync(`/sys/class/net/${this.#link(host)}/statistics/rx_bytes`, 'utf8'));
  }

  destroy(): void {
    for (let host = 1; host <= this.#count; host++) {
      tryIp('link', 'del', this.#link(host));
      tryIp('netns', 'del', this.#name(host));
    }
    tryIp('link', 'del', this.#bridge);
  }
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

function tryIp(...args: string[]): void {
  try {
    ip(...args);
  } catch {
    // It was not made.
  }
}
