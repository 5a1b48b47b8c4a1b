/**
 * The cluster key file: what a machine needs to be let into a cluster. One line of text,
 * `tatami-key-1 <cluster id> <32 random bytes in base64url>`, in a file with mode 0600.
 */
import { FormatError } from './errors.ts';
import type { Random } from './env.ts';

export interface ClusterKey {
  /** 32 hexadecimal characters. */
  readonly clusterId: string;
  /** 32 bytes. */
  readonly secret: Uint8Array;
}

export const KEY_BYTES = 32;
const TAG = 'tatami-key-1';

export function newClusterKey(random: Random): ClusterKey {
  return { clusterId: Buffer.from(random.bytes(16)).toString('hex'), secret: random.bytes(KEY_BYTES) };
}

export function formatClusterKey(key: ClusterKey): string {
  return `${TAG} ${key.clusterId} ${Buffer.from(key.secret).toString('base64url')}\n`;
}

/** Throws FormatError that names `where` and says what to do. */
export function parseClusterKey(text: string, where: string): ClusterKey {
  const [tag, clusterId, secret, ...rest] = text.trim().split(/\s+/);
  if (tag !== undefined && tag.startsWith('tatami-key-') && tag !== TAG) {
    throw new FormatError(`${where} is a key file of a newer format (${tag})`, {
      remedy: 'Run a newer tatamifs on this machine.',
    });
  }
  const bytes = Buffer.from(secret ?? '', 'base64url');
  const good = tag === TAG && rest.length === 0 && /^[0-9a-f]{32}$/.test(clusterId ?? '') && bytes.length === KEY_BYTES;
  if (!good || clusterId === undefined) {
    throw new FormatError(`${where} is not a tatamifs key file`, {
      remedy: 'Copy the key file that `tatami init` or `tatami up` made, whole, from a machine of the cluster.',
    });
  }
  return { clusterId, secret: new Uint8Array(bytes) };
}
