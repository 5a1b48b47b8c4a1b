/**
 * A join token: all that a new machine needs to enter a cluster, in one word that can be piped or pasted: the cluster's
 * key and addresses of some of its nodes. Whoever has it is in: it is as secret as the key file.
 *
 * `tatami-token-1.BODY.CHECK`; BODY is base64url of 16 bytes cluster id, 32 bytes secret, and the addresses in UTF-8,
 * separated by commas; CHECK is xxh64 of BODY's text, 16 hexadecimal digits, so that half a token is noticed as such.
 */
import { KEY_BYTES } from './cluster-key.ts';
import type { ClusterKey } from './cluster-key.ts';
import { FormatError } from './errors.ts';
import { parseAddress } from './net/address.ts';
import { xxh64 } from './xxhash.ts';

export interface JoinToken {
  readonly key: ClusterKey;
  /** Of nodes that were in the cluster when the token was made; at least one. */
  readonly addresses: readonly string[];
}

const TAG = 'tatami-token-1';
const CLUSTER_ID_BYTES = 16;

export function formatJoinToken({ key, addresses }: JoinToken): string {
  const parts = [Buffer.from(key.clusterId, 'hex'), key.secret, Buffer.from(addresses.join(','), 'utf8')];
  const body = Buffer.concat(parts).toString('base64url');
  return `${TAG}.${body}.${checkOf(body)}`;
}

/** @throws FormatError that says what is wrong with it, and never shows it. */
export function parseJoinToken(text: string): JoinToken {
  const [tag, body = '', check, ...rest] = text.trim().split('.');
  if (tag !== undefined && /^tatami-token-\d+$/.test(tag) && tag !== TAG) {
    throw new FormatError(`the join token is of a newer format (${tag})`, {
      remedy: 'Run a newer tatamifs on this machine.',
    });
  }
  if (tag !== TAG || body === '') {
    throw new FormatError('that is not a join token', {
      remedy: 'Get one with `tatami node token` on a machine that has the cluster key.',
    });
  }
  const bytes = Buffer.from(body, 'base64url');
  const secretAt = CLUSTER_ID_BYTES;
  const addressesAt = secretAt + KEY_BYTES;
  const addresses = bytes.subarray(addressesAt).toString('utf8').split(',');
  if (check !== checkOf(body) || rest.length > 0 || bytes.length <= addressesAt || !addresses.every(isAddress)) {
    throw new FormatError('the join token is damaged, or not whole', {
      remedy: 'Copy it whole, in one line, as `tatami node token` printed it.',
    });
  }
  const clusterId = bytes.subarray(0, CLUSTER_ID_BYTES).toString('hex');
  const secret = new Uint8Array(bytes.subarray(secretAt, addressesAt));
  return { key: { clusterId, secret }, addresses };
}

function checkOf(body: string): string {
  return xxh64(new TextEncoder().encode(body)).toString(16).padStart(16, '0');
}

function isAddress(text: string): boolean {
  try {
    return parseAddress(text).port > 0;
  } catch {
    return false;
  }
}
