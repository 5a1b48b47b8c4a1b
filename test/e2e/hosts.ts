/** Machines of their own: network namespaces on a bridge, with addresses that this process can reach, and routes that can be cut. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { TATAMI, must, run, waitUntil } from './support.ts';

/** Runs of the tests side by side shall not meet. */
const NET = process.pid % 250;
let bridges = 0;

export class TestHosts {
  readonly #bridge: string;
  readonly #subnet: string;
  readonly #hosts: number[] = [];
  readonly #running: ChildProcess[] = [];

  private constructor() {
    this.#bridge = `tt${NET}-${bridges}`;
    this.#subnet = `10.${78 + (bridges % 40)}.${NET}`;
    bridges++;
  }

  /** Hosts 1 to `count`. Call `destroy` in the end, whatever happens. */
  static async make(count: number): Promise<TestHosts> {
    const hosts = new TestHosts();
    try {
      await hosts.#make(count);
    } catch (error) {
      await hosts.destroy();
      throw error;
    }
    return hosts;
  }

  async #make(count: number): Promise<void> {
    await must('ip', ['link', 'add', this.#bridge, 'type', 'bridge']);
    await must('ip', ['addr', 'add', `${this.#subnet}.254/24`, 'dev', this.#bridge]);
    await must('ip', ['link', 'set', this.#bridge, 'up']);
    for (let index = 1; index <= count; index++) {
      const name = this.#name(index);
      await must('ip', ['netns', 'add', name]);
      this.#hosts.push(index);
      const inside = ['type', 'veth', 'peer', 'name', 'eth0', 'netns', name];
      await must('ip', ['link', 'add', this.#link(index), ...inside]);
      await must('ip', ['link', 'set', this.#link(index), 'master', this.#bridge, 'up']);
      await must('ip', ['-n', name, 'addr', 'add', `${this.address(index)}/24`, 'dev', 'eth0']);
      await must('ip', ['-n', name, 'link', 'set', 'eth0', 'up']);
      await must('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
    }
  }

  address(index: number): string {
    return `${this.#subnet}.${index}`;
  }

  #name(index: number): string {
    return `${this.#bridge}-h${index}`;
  }

  #link(index: number): string {
    return `${this.#bridge}-w${index}`;
  }

  /** What a command of the host begins with. */
  prefix(index: number): string[] {
    return ['ip', 'netns', 'exec', this.#name(index)];
  }

  /** Runs `tatami node` on the host until `destroy`; resolves when it serves. */
  async startNode(index: number, args: readonly string[]): Promise<ChildProcess> {
    const [program = '', ...rest] = [...this.prefix(index), process.execPath, TATAMI, 'node', ...args];
    const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#running.push(child);
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    await waitUntil(`node ${index}`, () => {
      if (child.exitCode !== null) throw new Error(`node ${index} ended with ${child.exitCode}\n${said}`);
      return said.includes('serves at');
    });
    return child;
  }

  /** From now on packets of one host to another are dropped at the sender. */
  async cut(from: number, to: number): Promise<void> {
    await must('ip', ['-n', this.#name(from), 'route', 'add', 'blackhole', `${this.address(to)}/32`]);
  }

  async heal(from: number, to: number): Promise<void> {
    await must('ip', ['-n', this.#name(from), 'route', 'del', 'blackhole', `${this.address(to)}/32`]);
  }

  /** The host's cable, pulled and put back. */
  async unplug(index: number): Promise<void> {
    await must('ip', ['link', 'set', this.#link(index), 'down']);
  }

  async plug(index: number): Promise<void> {
    await must('ip', ['link', 'set', this.#link(index), 'up']);
  }

  async destroy(): Promise<void> {
    for (const child of this.#running.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const exit = once(child, 'exit');
      child.kill('SIGKILL');
      await exit;
    }
    for (const index of this.#hosts.splice(0)) {
      // A namespace that is deleted goes away later, in the kernel's own time; its link does at once.
      await run('ip', ['link', 'del', this.#link(index)]);
      await run('ip', ['netns', 'del', this.#name(index)]);
    }
    await run('ip', ['link', 'del', this.#bridge]);
  }
}
