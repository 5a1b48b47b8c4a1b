import { rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import type { NodeId } from '../../ids.ts';
import { MiB } from '../../limits.ts';
import { NodeDirectory } from '../../node-directory.ts';
import { joinCluster } from '../../node-core.ts';
import type { NodeCoreOptions } from '../../node-core.ts';
import { startNode } from '../../node.ts';
import { startWitness } from '../../witness.ts';
import { readKeyFile } from '../cluster-files.ts';
import { processLogger } from '../logger.ts';
import { print } from '../output.ts';
import { realEnv } from '../real-env.ts';
import { tuneForLongRun } from '../long-running.ts';
import { checkAddress, defaultNodeId } from '../node-arguments.ts';
import { writeRecord } from '../process-record.ts';
import { tellParent } from '../spawn.ts';

export interface WitnessOptions {
  readonly data: string;
  readonly keyFile: string;
  readonly listen?: string;
  readonly join?: string;
  readonly id?: string;
  readonly host?: string;
  readonly rack: string;
  readonly zone: string;
  readonly record?: string;
}

export interface NodeOptions extends WitnessOptions {
  readonly capacityGib?: number;
  readonly reserveMib?: number;
  readonly discovery?: string;
}

/** What runs until it is stopped, or fails by itself. */
interface Running {
  readonly id: string;
  readonly address: string;
  readonly failed?: Promise<Error>;
  close(): Promise<void>;
}

/** Runs a node until SIGINT, SIGTERM or SIGHUP. */
export function node(options: NodeOptions, version: string): Promise<void> {
  return runUntilStopped('node', options, version, (core) =>
    startNode({
      ...core,
      describe: {
        ...describe(options),
        ...(options.capacityGib === undefined ? {} : { weight: options.capacityGib }),
      },
      ...(options.reserveMib === undefined ? {} : { reserveBytes: options.reserveMib * MiB }),
      ...(options.discovery === undefined ? {} : { discovery: options.discovery }),
    }),
  );
}

/** Runs a witness until SIGINT, SIGTERM or SIGHUP. */
export function witness(options: WitnessOptions, version: string): Promise<void> {
  return runUntilStopped('witness', options, version, startWitness);
}

async function runUntilStopped(
  what: 'node' | 'witness',
  options: WitnessOptions,
  version: string,
  start: (core: NodeCoreOptions) => Promise<Running>,
): Promise<void> {
  tuneForLongRun();
  const stopped = new Promise<void>((resolve) => {
    process.once('SIGINT', () => resolve());
    process.once('SIGTERM', () => resolve());
    process.once('SIGHUP', () => resolve());
  });
  const key = await readKeyFile(options.keyFile);
  const env = realEnv(key);
  const log = processLogger(`tatami-${what}`);
  const listen = options.listen === undefined ? undefined : checkAddress(options.listen, '--listen');
  const directory = new NodeDirectory(env.disk, options.data);
  if (options.join !== undefined && !(await directory.isInitialised())) {
    const id = (options.id ?? defaultNodeId()) as NodeId;
    await joinCluster({ env, key, directory, seeds: [checkAddress(options.join, '--join')], log, id });
  }
  const running = await start({
    env,
    key,
    directory,
    log,
    version,
    pid: process.pid,
    describe: describe(options),
    residentBytes: () => process.memoryUsage.rss(),
    ...(listen === undefined ? {} : { listen }),
  });
  if (options.record !== undefined) {
    const { id, address } = running;
    await writeRecord(options.record, { role: 'node', name: id, pid: process.pid, address });
  }
  await tellParent({ kind: 'ready', detail: running.address });
  if (options.record === undefined) print(`${what} ${running.id} serves at ${running.address}; Ctrl-C stops it`);
  const failure = await Promise.race([stopped, running.failed ?? stopped]);
  if (options.record !== undefined) await rm(options.record, { force: true });
  await running.close();
  if (failure instanceof Error) throw failure;
}

function describe({ host = hostname(), rack, zone }: WitnessOptions) {
  return { host, rack, zone };
}
