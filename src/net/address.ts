/** `host:port` addresses: parse, format, and what counts as loopback. Pure. */
import type { Address } from '../env.ts';
import { UsageError } from '../errors.ts';

export interface HostPort {
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Throws UsageError naming what is wrong. */
export function parseAddress(address: Address): HostPort {
  const bracketed = /^\[([0-9a-fA-F:.]+(?:%[0-9a-zA-Z._-]+)?)\]:(\d{1,5})$/.exec(address);
  const plain = bracketed ?? /^([A-Za-z0-9._-]+):(\d{1,5})$/.exec(address);
  const host = plain?.[1];
  const port = Number(plain?.[2]);
  if (host === undefined || !(port <= 65_535)) {
    throw new UsageError(`not an address: ${JSON.stringify(address.slice(0, 300))}`, {
      remedy: 'Write it as host:port, for example 127.0.0.1:7420; IPv6 hosts go in brackets: [::1]:7420.',
    });
  }
  return { host, port };
}

export function formatAddress(host: string, port: number): Address {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** True for 127.0.0.0/8, ::1, their IPv4-mapped form and the name localhost: traffic that never leaves the machine. */
export function isLoopbackHost(host: string): boolean {
  const bare = host.toLowerCase().replace(/^::ffff:/, '');
  return bare === 'localhost' || bare === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(bare);
}

/** As {@link isLoopbackHost}, of an address. */
export function isLoopback(address: Address): boolean {
  return isLoopbackHost(parseAddress(address).host);
}

/** True where a host stands for "every interface" and so cannot be dialled from another machine. */
export function isWildcardHost(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}
