/** Extended attributes: passed through, but for the one that the kernel asks about on every write. */
import { FsError } from '../errors.ts';
import type { Ino } from '../ids.ts';
import { XATTR_NAME_MAX_BYTES, XATTR_VALUE_MAX_BYTES } from '../limits.ts';
import type { MountState } from './mount-state.ts';
import type { Caller, Maybe } from './ops.ts';

const CAPABILITY = Buffer.from('security.capability');
/** Made once: the kernel asks before it writes to a file, and a stack costs more than the answer. */
const NO_CAPABILITY = new FsError('ENODATA');

export class XattrOps {
  readonly #state: MountState;

  constructor(state: MountState) {
    this.#state = state;
  }

  getxattr(caller: Caller, ino: Ino, name: Uint8Array): Maybe<Uint8Array> {
    const isCapability = CAPABILITY.equals(name);
    if (isCapability && this.#state.inodes.get(ino)?.hasNoCapability === true) throw NO_CAPABILITY;
    return this.#ask(caller, ino, name, isCapability);
  }

  async #ask(caller: Caller, ino: Ino, name: Uint8Array, isCapability: boolean): Promise<Uint8Array> {
    checkName(name);
    try {
      const { value } = await this.#state.query<'getxattr'>({ op: 'getxattr', ino, name }, caller.signal);
      return value;
    } catch (error) {
      if (isCapability && error instanceof FsError && error.code === 'ENODATA') {
        const inode = this.#state.inodes.get(ino);
        if (inode !== undefined) inode.hasNoCapability = true;
      }
      throw error;
    }
  }

  async setxattr(
    _caller: Caller,
    ino: Ino,
    name: Uint8Array,
    value: Uint8Array,
    mode: 'any' | 'create' | 'replace',
  ): Promise<void> {
    checkName(name);
    if (value.length > XATTR_VALUE_MAX_BYTES) throw new FsError('ERANGE');
    // The bytes may be the binding's request buffer.
    await this.#state.mutate({ op: 'setxattr', ino, name, value: new Uint8Array(value), mode });
    this.#changed(ino);
  }

  async removexattr(_caller: Caller, ino: Ino, name: Uint8Array): Promise<void> {
    checkName(name);
    await this.#state.mutate({ op: 'removexattr', ino, name });
    this.#changed(ino);
  }

  async listxattr(caller: Caller, ino: Ino): Promise<readonly Uint8Array[]> {
    const { names } = await this.#state.query<'listxattr'>({ op: 'listxattr', ino }, caller.signal);
    return names;
  }

  /** The change time is another now. */
  #changed(ino: Ino): void {
    const inode = this.#state.inodes.get(ino);
    if (inode === undefined) return;
    inode.hasNoCapability = false;
    inode.attrExpiresMs = 0;
  }
}

function checkName(name: Uint8Array): void {
  if (name.length === 0 || name.length > XATTR_NAME_MAX_BYTES) throw new FsError('ERANGE');
}
