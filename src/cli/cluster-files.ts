/** The files of a one-machine cluster (cluster-location.ts), and how any command finds its cluster. */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { ClusterKey } from '../cluster-key.ts';
import { formatClusterKey, parseClusterKey } from '../cluster-key.ts';
import { CLUSTER_FILE, KEY_FILE, parseClusterFile } from '../cluster-location.ts';
import type { ClusterFile } from '../cluster-location.ts';
import { createNodeEnv } from '../env-node.ts';
import { UsageError } from '../errors.ts';
import { NodeDirectory } from '../node-directory.ts';
import { checkAddresses } from './node-arguments.ts';
import { newDirectory } from './new-directory.ts';

export class ClusterFiles {
  readonly path: string;

  constructor(dataDirectory: string) {
    this.path = resolve(dataDirectory);
  }

  get keyPath(): string {
    return join(this.path, KEY_FILE);
  }
  get runPath(): string {
    return join(this.path, 'run');
  }
  get logPath(): string {
    return join(this.path, 'log');
  }
  get nodesPath(): string {
    return join(this.path, 'nodes');
  }
  nodePath(id: string): string {
    return join(this.nodesPath, id);
  }

  /** Undefined if there is no cluster here. */
  async load(): Promise<ClusterFile | undefined> {
    let text: string;
    try {
      text = await readFile(join(this.path, CLUSTER_FILE), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') {
        throw new UsageError(`${this.path} is not a directory`, { remedy: 'Give a directory with --data.' });
      }
      throw error;
    }
    return parseClusterFile(text, join(this.path, CLUSTER_FILE));
  }

  async require(): Promise<ClusterFile> {
    const file = await this.load();
    if (file !== undefined) return file;
    throw new UsageError(`there is no cluster in ${this.path}`, {
      remedy: 'Start one with `tatami up`, or say where it is with --data DIR or --connect ADDRESS --key-file FILE.',
    });
  }

  async save(file: ClusterFile): Promise<void> {
    await newDirectory(this.path);
    const text = `${JSON.stringify(file, undefined, 1)}\n`;
    await createNodeEnv().disk.writeFileAtomic(join(this.path, CLUSTER_FILE), new TextEncoder().encode(text));
  }
}

export async function readKeyFile(path: string): Promise<ClusterKey> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new UsageError(`cannot read the key file ${path}: ${(error as Error).message}`, {
      remedy:
        'Give the cluster key with --key-file (in mount options: key_file=); `tatami init` and `tatami up` make it.',
    });
  }
  const key = parseClusterKey(text, path);
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0) {
    throw new UsageError(`the key file ${path} can be read by other users`, { remedy: `Run: chmod 600 ${path}` });
  }
  return key;
}

/** Fails if the file exists: a key is never overwritten. */
export async function writeKeyFile(path: string, key: ClusterKey): Promise<void> {
  try {
    await writeFile(path, formatClusterKey(key), { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new UsageError(`the key file ${path} exists`, {
      remedy: 'Choose another --key-file, or remove it if no cluster uses it.',
    });
  }
}

export interface WhereOptions {
  readonly data?: string;
  readonly connect?: string;
  readonly keyFile?: string;
}

export interface Where {
  readonly seeds: readonly string[];
  readonly key: ClusterKey;
  /** Present when the cluster was found by its data directory. */
  readonly files?: ClusterFiles;
}

export const DEFAULT_DATA = './tatami-data';

/** By the data directory of a single node: its catalog knows where the others are, too. */
async function whereOfNode(files: ClusterFiles, keyFile: string | undefined): Promise<Where | undefined> {
  const directory = new NodeDirectory(createNodeEnv().disk, files.path);
  if (!(await directory.isInitialised())) return undefined;
  const { nodes } = await directory.catalog();
  return { seeds: nodes.map((node) => node.address), key: await readKeyFile(keyFile ?? files.keyPath) };
}

/** Finds the cluster by --connect and --key-file (or TATAMI_CONNECT, TATAMI_KEY_FILE), else by the data directory. */
export async function findCluster(options: WhereOptions): Promise<Where> {
  const connect = options.connect ?? (options.data === undefined ? process.env['TATAMI_CONNECT'] : undefined);
  if (connect !== undefined) {
    const keyFile = options.keyFile ?? process.env['TATAMI_KEY_FILE'];
    if (connect.split(',').every((seed) => seed.trim() === '')) {
      throw new UsageError('--connect (or TATAMI_CONNECT) is empty', {
        remedy: 'Give addresses of nodes, for example --connect 192.0.2.7:7400,192.0.2.8:7400, or leave it out.',
      });
    }
    const seeds = checkAddresses(connect, '--connect');
    if (keyFile === undefined) throw new UsageError('--connect needs --key-file', { remedy: 'Add --key-file FILE.' });
    return { seeds, key: await readKeyFile(keyFile) };
  }
  const files = new ClusterFiles(options.data ?? process.env['TATAMI_DATA'] ?? DEFAULT_DATA);
  const ofNode = await whereOfNode(files, options.keyFile ?? process.env['TATAMI_KEY_FILE']);
  if (ofNode !== undefined) return ofNode;
  const file = await files.require();
  return { seeds: file.nodes.map((node) => node.address), key: await readKeyFile(files.keyPath), files };
}
