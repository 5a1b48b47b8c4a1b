import { rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { UsageError } from '../../errors.ts';
import type { NodeId } from '../../ids.ts';
import { MiB } from '../../limits.ts';
import { NodeDirectory } from '../../node-directory.ts';
import { joinCluster } from '../../node-core.ts';
import type { NodeCoreOptions } from '../../node-core.ts';
import { startNode } from '../../node.ts';
import { startWitness } from '../../witness.ts';
import { findSecret, keepKey } from '../join-secret.ts';
import type { Secret } from '../join-secret.ts';
import { processLogger } from '../logger.ts';
import { print } from '../output.ts';
import { realEnv } from '../real-env.ts';
import { tuneForLongRun } from '../long-running.ts';
import { checkAddresses, checkNodeId, checkOwnAddress, defaultNodeId } from '../node-arguments.ts';
import { shellWord } from '../own-command.ts';
import { PauseWatch } from '../pause-watch.ts';
import { writeRecord } from '../process-record.ts';
import { tellParent } from '../spawn.ts';

export interface WitnessOptions {
  readonly data: string;
  readonly keyFile?: string;
  readonly listen?: string;
  readonly join?: string;
  readonly id?: string;
  readonly host?: string;
  readonly rack: string;
  readonly zone: string;
  readonly record?: string;
}

export interface NodeOptions extends WitnessOptions {
  readonly token?: string;
  readonly capacityGib?: number;
  readonly reserveMib?: number;
  readonly discovery?: string;
}

/** What runs until it is stopped, or fails by itself. */
interface Running {
  readonly id: string;
  readonly address: string;
  readonly failed?: Promise<Error>;
  leave?(): Promise<void>;
  close(): Promise<void>;
}

/** Runs a node until SIGINT, SIGTERM or SIGHUP. */
export async function node(options: Omit<NodeOptions, 'data'> & { data?: string }, version: string): Promise<void> {
  const { data } = options;
  if (data === undefined) {
    throw new UsageError('which node? --data is missing', {
      remedy: 'Give its data directory with --data DIR; `tatami node --help` lists the subcommands.',
    });
  }
  const secret = await findSecret({ ...options, data }, false);
  return runNode({ ...options, data }, secret, version);
}

/** Adds this machine to a cluster, once, and runs its node. */
export async function join(addresses: string | undefined, options: NodeOptions, version: string): Promise<void> {
  const secret = await findSecret(options, true);
  const through = addresses ?? secret.addresses?.join(',');
  const directory = new NodeDirectory(realEnv(secret.key).disk, options.data);
  if (!(await directory.isInitialised())) {
    if (through === undefined) {
      throw new UsageError('which cluster? An address is missing', {
        remedy: 'Give one of a node that runs: tatami node join HOST:PORT ...; or a join token, which has them.',
      });
    }
    if (options.listen === undefined) {
      throw new UsageError('a new node needs an address: --listen is missing', {
        remedy: 'Give the one by which the other machines reach it: --listen HOST:PORT.',
      });
    }
  }
  return runNode({ ...options, ...(through === undefined ? {} : { join: through }) }, secret, version);
}

/** What goes on beside a node that runs, until it is stopped. */
export type Beside = (node: { readonly id: string; readonly address: string }, signal: AbortSignal) => Promise<void>;

export function runNode(
  options: NodeOptions & { readonly replaces?: NodeId },
  secret: Secret,
  version: string,
  started?: Beside,
): Promise<void> {
  const start = (core: NodeCoreOptions) =>
    startNode({
      ...core,
      ...(options.replaces === undefined ? {} : { replaces: options.replaces }),
      describe: {
        ...describe(options),
        ...(options.capacityGib === undefined ? {} : { weight: options.capacityGib }),
      },
      ...(options.reserveMib === undefined ? {} : { reserveBytes: options.reserveMib * MiB }),
      ...(options.discovery === undefined ? {} : { discovery: options.discovery }),
    });
  return runUntilStopped('node', options, secret, version, start, started);
}

/** Runs a witness until SIGINT, SIGTERM or SIGHUP. */
export async function witness(options: WitnessOptions, version: string): Promise<void> {
  return runUntilStopped('witness', options, await findSecret(options, false), version, startWitness);
}

async function runUntilStopped(
  what: 'node' | 'witness',
  options: WitnessOptions,
  secret: Secret,
  version: string,
  start: (core: NodeCoreOptions) => Promise<Running>,
  started?: Beside,
): Promise<void> {
  tuneForLongRun();
  // Users' files are in there, whoever may read them in the filesystem.
  process.umask(0o077);
  const stopped = new Promise<void>((resolve) => {
    process.once('SIGINT', () => resolve());
    process.once('SIGTERM', () => resolve());
    process.once('SIGHUP', () => resolve());
  });
  const { key } = secret;
  const env = realEnv(key);
  const log = processLogger(`tatami-${what}`);
  const listen = options.listen === undefined ? undefined : checkOwnAddress(options.listen, '--listen');
  const directory = new NodeDirectory(env.disk, options.data);
  if (options.join !== undefined && !(await directory.isInitialised())) {
    const id = options.id === undefined ? (defaultNodeId() as NodeId) : checkNodeId(options.id, '--id');
    const seeds = checkAddresses(options.join, 'join');
    await joinCluster({ env, key, directory, seeds, log, id });
    if (options.record === undefined) print(`joining cluster ${key.clusterId.slice(0, 8)} as ${id}`);
  }
  if (secret.addresses !== undefined) await keepKey(options.data, key);
  const pauses = new PauseWatch(log);
  const running = await start({
    env,
    key,
    directory,
    log,
    version,
    pid: process.pid,
    describe: describe(options),
    residentBytes: () => process.memoryUsage.rss(),
    longestPauseMs: () => pauses.longestMs,
    ...(listen === undefined ? {} : { listen }),
  });
  if (options.record !== undefined) {
    const { id, address } = running;
    await writeRecord(options.record, { role: 'node', name: id, pid: process.pid, address }).catch(
      async (error: unknown) => {
        // Nobody would know whom to end.
        await running.close();
        throw error;
      },
    );
  }
  await tellParent({ kind: 'ready', detail: running.address });
  if (options.record === undefined) {
    print(`${what} ${running.id} serves at ${running.address}; Ctrl-C stops it`);
    if (options.join !== undefined) {
      const keyFile = options.keyFile === undefined ? '' : ` --key-file ${shellWord(options.keyFile)}`;
      print(`to start it again: tatami ${what} --data ${shellWord(options.data)}${keyFile}`);
    }
  }
  const ending = new AbortController();
  const beside = started?.(running, ending.signal);
  const failure = await Promise.race([stopped, running.failed ?? stopped]);
  ending.abort();
  await beside;
  if (options.record !== undefined) await rm(options.record, { force: true });
  if (!(failure instanceof Error)) await running.leave?.();
  await running.close();
  pauses.stop();
  if (failure instanceof Error) throw failure;
}

function describe({ host = hostname(), rack, zone }: WitnessOptions) {
  return { host, rack, zone };
}
