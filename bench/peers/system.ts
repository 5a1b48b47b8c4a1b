/** One system under measurement, from its first start on an empty directory to nothing left. */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { dropPageCache } from '../measure.ts';
import { Sandbox } from './sandbox.ts';
import type { PeerKind, Place } from './types.ts';

export class PeerSystem {
  readonly kind: PeerKind;
  readonly #place: Place;
  #sandbox: Sandbox | undefined;

  /** `directory` is made, and removed in the end. */
  constructor(kind: PeerKind, directory: string) {
    this.kind = kind;
    this.#place = { directory, mountPoint: join(directory, 'mnt') };
  }

  get name(): string {
    return this.kind.name;
  }

  version(): string {
    return this.kind.version();
  }

  get mountPoint(): string {
    return this.#place.mountPoint;
  }

  get sandbox(): Sandbox {
    if (this.#sandbox === undefined) throw new Error(`${this.name} does not run`);
    return this.#sandbox;
  }

  /** A new one, empty, started. */
  async setUp(): Promise<void> {
    mkdirSync(this.mountPoint, { recursive: true });
    this.#sandbox = await Sandbox.open();
    await this.kind.create(this.#place, this.#sandbox);
    await this.kind.start(this.#place, this.#sandbox, true);
  }

  async mount(): Promise<void> {
    await this.kind.mount(this.#place, this.sandbox);
  }

  /** Everything stopped, the page cache dropped, everything started again. */
  async restartCold(): Promise<void> {
    await this.#stop();
    dropPageCache();
    this.#sandbox = await Sandbox.open();
    await this.kind.start(this.#place, this.#sandbox, false);
    await this.mount();
  }

  /** In order if it can be, by force if not; afterwards nothing of it is left. Idempotent. */
  async tearDown(): Promise<void> {
    try {
      await this.#stop();
    } finally {
      rmSync(this.#place.directory, { recursive: true, force: true });
    }
  }

  async #stop(): Promise<void> {
    const sandbox = this.#sandbox;
    if (sandbox === undefined) return;
    try {
      await this.kind.stop?.(this.#place, sandbox);
      // Not mounted, or busy with a reader that was ended just now: the namespace's end takes it all the same.
      if (existsSync(this.mountPoint)) await sandbox.run('umount', this.mountPoint).catch(() => undefined);
      await sandbox.endProcesses();
    } finally {
      await sandbox.end();
      this.#sandbox = undefined;
    }
  }
}
