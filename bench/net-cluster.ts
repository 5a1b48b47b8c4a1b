/** A cluster on machines of their own (net-hosts.ts), each with one node, and programs there that say what they have done. */
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NetHosts, type HostProcess } from './net-hosts.ts';
import { tatami } from './tatami.ts';

const TATAMI = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
/** Opens /large, waits to be told, reads all of it and prints the milliseconds; or writes it. */
const READER = fileURLToPath(new URL('./boot-storm-client.js', import.meta.url));

/** Waits until a program has printed what is looked for. */
export async function said(child: HostProcess, wanted: RegExp): Promise<string> {
  let text = '';
  child.stdout.setEncoding('utf8');
  for (;;) {
    const [chunk] = (await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])) as [unknown];
    if (typeof chunk !== 'string') throw new Error(`a process ended early: ${text}`);
    text += chunk;
    const found = wanted.exec(text);
    if (found !== null) return found[0];
  }
}

export class NetCluster {
  readonly hosts: NetHosts;
  readonly #directory: string;
  readonly #nodeCount: number;
  readonly #nodes: HostProcess[] = [];

  /** Machines 1 to `nodeCount` get a node each at `start`, `clientCount` more none. Call `destroy` in the end. */
  constructor(workDirectory: string, nodeCount: number, clientCount: number, uplinkMegabits: number) {
    this.#directory = join(workDirectory, 'net-cluster');
    this.#nodeCount = nodeCount;
    this.hosts = new NetHosts(nodeCount + clientCount, uplinkMegabits);
  }

  async start(copies: number): Promise<void> {
    mkdirSync(this.#directory);
    const [first = ''] = this.#addresses();
    const own = (host: number) => ['--data', join(this.#directory, `n${host}`), '--key-file', this.#key];
    const name = (host: number) => ['--id', `n${host}`, '--host', `h${host}`];
    tatami('init', ...own(1), '--listen', first, ...name(1), '--copies', String(copies));
    await this.#run(1, own(1));
    for (let host = 2; host <= this.#nodeCount; host++) {
      await this.#run(host, [
        'join',
        first,
        ...own(host),
        '--listen',
        `${this.hosts.address(host)}:7400`,
        ...name(host),
      ]);
    }
  }

  /** A reader (or writer) of /large on machine `nodeCount + client`. */
  client(client: number, mode: 'write' | 'share' | 'alone', sizeBytes: number): HostProcess {
    const args = [mode, this.#addresses().join(','), this.#key, String(sizeBytes)];
    return this.hosts.spawn(this.#nodeCount + client, READER, ...args);
  }

  async write(sizeBytes: number): Promise<void> {
    const [code] = (await once(this.client(1, 'write', sizeBytes), 'exit')) as [number | null];
    if (code !== 0) throw new Error(`the writer ended with ${code}`);
  }

  async destroy(): Promise<void> {
    const exits = this.#nodes.filter((node) => node.exitCode === null).map((node) => once(node, 'exit'));
    for (const node of this.#nodes) node.kill('SIGKILL');
    await Promise.all(exits);
    this.hosts.destroy();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  get #key(): string {
    return join(this.#directory, 'key');
  }

  #addresses(): string[] {
    return Array.from({ length: this.#nodeCount }, (_, index) => `${this.hosts.address(index + 1)}:7400`);
  }

  async #run(host: number, args: readonly string[]): Promise<void> {
    const node = this.hosts.spawn(host, TATAMI, 'node', ...args);
    this.#nodes.push(node);
    await said(node, /serves at/);
    node.stdout.resume();
  }
}
