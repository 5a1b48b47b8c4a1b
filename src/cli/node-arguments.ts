import { hostname } from 'node:os';
import { UsageError } from '../errors.ts';
import type { NodeId } from '../ids.ts';
import { isWildcardHost, parseAddress } from '../net/address.ts';

/** Returns the address as given if it is `host:port` with a real port. */
export function checkAddress(text: string, option: string): string {
  let port: number;
  try {
    ({ port } = parseAddress(text));
  } catch (error) {
    throw new UsageError(`${option} ${text}: ${(error as Error).message}`, {
      remedy: 'Write host:port, for example 192.0.2.7:7400, or [2001:db8::7]:7400.',
    });
  }
  if (port === 0) {
    throw new UsageError(`${option} ${text}: a node has a port of its own, not 0`, {
      remedy: 'For example 7400.',
    });
  }
  return text;
}

/** The address of a node itself, which all others are told. */
export function checkOwnAddress(text: string, option: string): string {
  const address = checkAddress(text, option);
  if (!isWildcardHost(parseAddress(address).host)) return address;
  throw new UsageError(
    `${option} ${text}: that is every address of a machine, and none by which others reach this one`,
    {
      remedy: 'Give the one by which the other machines reach it, for example 192.0.2.7:7400.',
    },
  );
}

/** Some addresses, separated by commas. */
export function checkAddresses(text: string, option: string): string[] {
  const addresses = text
    .split(',')
    .map((address) => address.trim())
    .filter((address) => address !== '');
  if (addresses.length === 0) {
    throw new UsageError(`${option}: no address is given`, { remedy: 'For example 192.0.2.7:7400,192.0.2.8:7400.' });
  }
  return addresses.map((address) => checkAddress(address, option));
}

export function checkNodeId(text: string, option: string): NodeId {
  if (/^[a-z0-9][a-z0-9-]{0,63}$/.test(text)) return text as NodeId;
  throw new UsageError(`${option} ${text}: that cannot be the name of a node`, {
    remedy: 'A name has 1 to 64 of a-z, 0-9 and -, and does not begin with -.',
  });
}

/** The host name in the alphabet of node ids. */
export function defaultNodeId(): string {
  const name = hostname()
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 64);
  return name === '' ? 'node' : name;
}
