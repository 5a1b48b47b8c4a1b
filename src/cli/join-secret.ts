/** Where a node that is started gets the cluster's key from: a key file, a join token, or what an earlier join kept. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ClusterKey } from '../cluster-key.ts';
import { KEY_FILE } from '../cluster-location.ts';
import { UsageError } from '../errors.ts';
import { parseJoinToken } from '../join-token.ts';
import { readKeyFile, writeKeyFile } from './cluster-files.ts';
import { note } from './output.ts';

export interface SecretOptions {
  readonly data: string;
  readonly keyFile?: string;
  /** As given; `-` is standard input. */
  readonly token?: string;
}

export interface Secret {
  readonly key: ClusterKey;
  /** What a token brought. */
  readonly addresses?: readonly string[];
}

/** `mayUseToken`: also from the environment. */
export async function findSecret(options: SecretOptions, mayUseToken: boolean): Promise<Secret> {
  const kept = join(options.data, KEY_FILE);
  if (options.keyFile !== undefined) {
    if (options.token !== undefined) {
      throw new UsageError('--key-file and --token are two ways to give the same key', { remedy: 'Leave one out.' });
    }
    return { key: await readKeyFile(options.keyFile) };
  }
  const fromEnvironment = mayUseToken ? process.env['TATAMI_TOKEN'] : undefined;
  const given = options.token ?? (existsSync(kept) ? undefined : fromEnvironment);
  if (given !== undefined) {
    const { key, addresses } = parseJoinToken(await tokenText(given, options.token !== undefined));
    return { key, addresses };
  }
  if (existsSync(kept)) return { key: await readKeyFile(kept) };
  throw new UsageError('the cluster key is needed', {
    remedy: mayUseToken
      ? 'Give it with --key-file FILE, or a join token with --token (`tatami node token` prints one).'
      : 'Give it with --key-file FILE.',
  });
}

async function tokenText(given: string, onCommandLine: boolean): Promise<string> {
  if (given === '-') {
    if (process.stdin.isTTY) note('paste the join token, then press Enter and Ctrl-D:');
    const chunks: Buffer[] = [];
    for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString('utf8');
  }
  if (onCommandLine) {
    // Node then writes over the arguments that `ps` shows.
    process.title = 'tatami node join';
    note('the token is in the history of your shell now; `--token -` and TATAMI_TOKEN keep it out of there');
  }
  return given;
}

/** So that the node can be started again without the token. */
export async function keepKey(data: string, key: ClusterKey): Promise<void> {
  const path = join(data, KEY_FILE);
  if (!existsSync(path)) return writeKeyFile(path, key);
  const kept = await readKeyFile(path);
  if (kept.clusterId === key.clusterId && Buffer.compare(kept.secret, key.secret) === 0) return;
  throw new UsageError(`${path} holds another key`, {
    remedy: `Look whose it is (${(await readFile(path, 'utf8')).split(' ')[1]?.slice(0, 8) ?? 'unknown'} is its cluster), and choose another directory.`,
  });
}
