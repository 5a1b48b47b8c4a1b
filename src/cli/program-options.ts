/** Options that several commands of main.ts share. */
import { InvalidArgumentError } from 'commander';
import type { Command } from 'commander';
import { BLOCK_MAX_BYTES, KiB, MiB, PAGE_BYTES } from '../limits.ts';

/** A whole number within bounds. */
export function count(least: number, most: number) {
  return (text: string): number => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isInteger(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It is a whole number from ${least} to ${most}.`);
  };
}

/** A power of two within bounds. */
export function powerOfTwo(least: number, most: number) {
  return (text: string): number => {
    const value = Number(text);
    if (/^\d+$/.test(text) && isPowerOfTwo(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It is a power of two from ${least} to ${most}.`);
  };
}

const UNITS: Readonly<Record<string, number>> = { '': 1, K: KiB, M: MiB };

/** A size of blocks: `65536`, `64K`, `64KiB`, `4M`, ... */
export function blockSize(text: string): number {
  const [, digits, unit] = /^(\d+) ?([KM]?)(?:i?B)?$/i.exec(text) ?? [];
  const value = Number(digits) * (UNITS[unit?.toUpperCase() ?? ''] ?? 1);
  if (isPowerOfTwo(value) && value >= PAGE_BYTES && value <= BLOCK_MAX_BYTES) return value;
  throw new InvalidArgumentError(`It is a power of two from ${PAGE_BYTES / KiB}K to ${BLOCK_MAX_BYTES / MiB}M.`);
}

function isPowerOfTwo(value: number): boolean {
  return value >= 1 && Number.isInteger(Math.log2(value));
}

/** Which cluster the command is about. */
export function withCluster(command: Command): Command {
  return command
    .option('--data <dir>', 'find the cluster by the data directory of `tatami up`, or of a node')
    .option('--connect <addresses>', 'find the cluster by addresses of its nodes, host:port,host:port')
    .option('--key-file <file>', 'cluster key, with --connect');
}

/** Which failure domains a new node is in. */
export function withDomains(command: Command): Command {
  return command
    .option('--host <name>', 'failure domain: machine (default: the host name)')
    .option('--rack <name>', 'failure domain: rack', 'rack')
    .option('--zone <name>', 'failure domain: zone', 'zone');
}
