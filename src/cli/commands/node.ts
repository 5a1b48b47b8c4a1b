import { rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import type { NodeId } from '../../ids.ts';
import { MiB } from '../../limits.ts';
import { NodeDirectory } from '../../node-directory.ts';
import { joinCluster, startNode } from '../../node.ts';
import { readKeyFile } from '../cluster-files.ts';
import { processLogger } from '../logger.ts';
import { print } from '../output.ts';
import { realEnv } from '../real-env.ts';
import { tuneForLongRun } from '../long-running.ts';
import { checkAddress, defaultNodeId } from '../node-arguments.ts';
import { writeRecord } from '../process-record.ts';
import { tellParent } from '../spawn.ts';

export interface NodeOptions {
  readonly data: string;
  readonly keyFile: string;
  readonly listen?: string;
  readonly join?: string;
  readonly id?: string;
  readonly host?: string;
  readonly rack: string;
  readonly zone: string;
  readonly capacityGib?: number;
  readonly reserveMib?: number;
  readonly discovery?: string;
  readonly record?: string;
}

/** Runs a node until SIGINT or SIGTERM. */
export async function node(options: NodeOptions, version: string): Promise<void> {
  tuneForLongRun();
  const stopped = new Promise<void>((resolve) => {
    process.once('SIGINT', () => resolve());
    process.once('SIGTERM', () => resolve());
  });
  const key = await readKeyFile(options.keyFile);
  const env = realEnv(key);
  const log = processLogger('tatami-node');
  const listen = options.listen === undefined ? undefined : checkAddress(options.listen, '--listen');
  const directory = new NodeDirectory(env.disk, options.data);
  if (options.join !== undefined && !(await directory.isInitialised())) {
    await joinCluster({
      env,
      key,
      directory,
      seeds: [checkAddress(options.join, '--join')],
      log,
      id: (options.id ?? defaultNodeId()) as NodeId,
    });
  }
  const running = await startNode({
    env,
    key,
    directory,
    log,
    version,
    pid: process.pid,
    describe: {
      host: options.host ?? hostname(),
      rack: options.rack,
      zone: options.zone,
      ...(options.capacityGib === undefined ? {} : { weight: options.capacityGib }),
    },
    residentBytes: () => process.memoryUsage.rss(),
    ...(listen === undefined ? {} : { listen }),
    ...(options.reserveMib === undefined ? {} : { reserveBytes: options.reserveMib * MiB }),
    ...(options.discovery === undefined ? {} : { discovery: options.discovery }),
  });
  if (options.record !== undefined) {
    const { id, address } = running;
    await writeRecord(options.record, { role: 'node', name: id, pid: process.pid, address });
  }
  await tellParent({ kind: 'ready', detail: running.address });
  if (options.record === undefined) print(`node ${running.id} serves at ${running.address}; Ctrl-C stops it`);
  const failure = await Promise.race([stopped, running.failed]);
  if (options.record !== undefined) await rm(options.record, { force: true });
  await running.close();
  if (failure instanceof Error) throw failure;
}
