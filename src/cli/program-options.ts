/** Options that several commands of main.ts share. */
import { InvalidArgumentError } from 'commander';
import type { Command } from 'commander';

/** A whole number within bounds. */
export function count(least: number, most: number) {
  return (text: string): number => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isInteger(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It is a whole number from ${least} to ${most}.`);
  };
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
