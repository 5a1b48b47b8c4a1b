import { hostname } from 'node:os';
import { UsageError } from '../errors.ts';
import { parseAddress } from '../net/address.ts';

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

/** The host name in the alphabet of node ids. */
export function defaultNodeId(): string {
  const name = hostname()
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 64);
  return name === '' ? 'node' : name;
}
