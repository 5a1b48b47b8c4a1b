import { rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { firstCatalog } from '../../catalog/document.ts';
import { newClusterKey } from '../../cluster-key.ts';
import { createNodeEnv } from '../../env-node.ts';
import { wallMs } from '../../env.ts';
import type { HistoryId, NodeId } from '../../ids.ts';
import { GiB } from '../../limits.ts';
import { NodeDirectory } from '../../node-directory.ts';
import { writeKeyFile } from '../cluster-files.ts';
import { print } from '../output.ts';
import { checkNodeId, checkOwnAddress, defaultNodeId } from '../node-arguments.ts';
import { thisUser } from '../this-user.ts';
import { newDirectory } from '../new-directory.ts';

export interface InitOptions {
  readonly data: string;
  readonly listen: string;
  readonly keyFile: string;
  readonly id?: string;
  readonly host?: string;
  readonly rack: string;
  readonly zone: string;
  readonly copies?: number;
}

/** Makes the key and the first node's data directory; starts nothing. */
export async function init(options: InitOptions): Promise<void> {
  const env = createNodeEnv();
  const address = checkOwnAddress(options.listen, '--listen');
  const id = options.id === undefined ? (defaultNodeId() as NodeId) : checkNodeId(options.id, '--id');
  const key = newClusterKey(env.random);
  const storeId = Buffer.from(env.random.bytes(8)).toString('hex');
  await newDirectory(options.data);
  // As a node that joins describes itself.
  const { totalBytes } = await env.disk.space(options.data);
  const catalog = firstCatalog({
    clusterId: key.clusterId,
    historyId: Buffer.from(env.random.bytes(8)).toString('hex') as HistoryId,
    atMs: wallMs(env.clock),
    nodes: [
      {
        id,
        storeId,
        address,
        weight: Math.max(1, Math.round(totalBytes / GiB)),
        host: options.host ?? hostname(),
        rack: options.rack,
        zone: options.zone,
      },
    ],
    rootOwner: thisUser(),
    ...(options.copies === undefined ? {} : { copies: options.copies }),
  });
  // The key first: a data directory without its key would be lost.
  await writeKeyFile(options.keyFile, key);
  try {
    await new NodeDirectory(env.disk, options.data).create({ clusterId: key.clusterId, nodeId: id, storeId }, catalog);
  } catch (error) {
    // Of a cluster that there is not; and the next attempt takes no key file that exists.
    await rm(options.keyFile, { force: true });
    throw error;
  }
  print(`cluster ${key.clusterId.slice(0, 8)} made; its key is in ${options.keyFile} (keep it secret)`);
  print(`start this node:   tatami node --data ${options.data} --key-file ${options.keyFile}`);
  print(`on other machines, with a copy of the key file:`);
  print(`  tatami node join ${address} --data DIR --listen HOST:PORT --key-file ${options.keyFile}`);
  print(`mount it:          tatami mount DIR --connect ${address} --key-file ${options.keyFile}`);
}
