/**
 * A node's data directory: which cluster, node and store it is, and where each part keeps its files.
 *
 * ```
 * node.json      identity of this store (below), written once
 * catalog.json   the newest catalog this node has seen
 * votes.json     what it has promised as a voter on the catalog (R11)
 * events.jsonl   what happened, as far as this node knows
 * blocks/        packs and their index
 * handoff/       copies still owed to other nodes
 * meta/GROUP/    log and table of each group
 * ```
 */
import { z } from 'zod';
import { decodeCatalog, encodeCatalog } from './catalog/document.ts';
import type { Catalog } from './catalog/types.ts';
import { decodeVotes, encodeVotes, firstVotes } from './catalog/votes.ts';
import type { VoteStore } from './catalog/votes.ts';
import type { Disk } from './env.ts';
import { FormatError, UsageError } from './errors.ts';
import type { GroupId, NodeId } from './ids.ts';

/** 2: votes.json belongs to it. A directory of format 1 never voted, and gets its first votes. */
const NODE_FORMAT_VERSION = 2;

const identitySchema = z.strictObject({
  formatVersion: z.number().int().min(1).max(NODE_FORMAT_VERSION),
  clusterId: z.string().regex(/^[0-9a-f]{32}$/),
  nodeId: z.string().min(1).max(64),
  storeId: z.string().regex(/^[0-9a-f]{16,64}$/),
});

export interface NodeIdentity {
  readonly clusterId: string;
  readonly nodeId: NodeId;
  readonly storeId: string;
}

export class NodeDirectory {
  readonly path: string;
  readonly #disk: Disk;

  constructor(disk: Disk, path: string) {
    this.#disk = disk;
    this.path = path;
  }

  get blocksPath(): string {
    return `${this.path}/blocks`;
  }

  get handoffPath(): string {
    return `${this.path}/handoff`;
  }

  /** What happened, for `tatami events`. */
  get eventsPath(): string {
    return `${this.path}/events.jsonl`;
  }
  groupPath(group: GroupId): string {
    return `${this.path}/meta/${group}`;
  }

  /** True once {@link create} has ended. */
  async isInitialised(): Promise<boolean> {
    return this.#disk.exists(`${this.path}/node.json`);
  }

  /** Makes the directory a node's. UsageError if it is one already or holds something else. */
  async create(identity: NodeIdentity, catalog: Catalog): Promise<void> {
    if (await this.isInitialised()) {
      throw new UsageError(`${this.path} already is the data directory of a node`, {
        remedy: 'Start it with `tatami node`, or choose an empty directory.',
      });
    }
    await this.#disk.mkdir(this.path);
    const names = (await this.#disk.readdir(this.path)).filter((name) => !HARMLESS.has(name) && !BEGUN.test(name));
    if (names.length > 0) {
      throw new UsageError(`${this.path} is not empty (${names.slice(0, 3).join(', ')})`, {
        remedy: 'Choose an empty directory: a node keeps its data apart from other files.',
      });
    }
    await this.saveCatalog(catalog);
    await this.#beginVotes(identity);
  }

  /** Written last: from then on votes.json is expected, and its absence is a loss. */
  async #beginVotes({ clusterId, nodeId, storeId }: NodeIdentity): Promise<void> {
    await this.#disk.writeFileAtomic(this.#votesPath, firstVotes(storeId));
    const node = { formatVersion: NODE_FORMAT_VERSION, clusterId, nodeId, storeId };
    const text = JSON.stringify(node, undefined, 1);
    await this.#disk.writeFileAtomic(`${this.path}/node.json`, new TextEncoder().encode(`${text}\n`));
  }

  get #votesPath(): string {
    return `${this.path}/votes.json`;
  }

  /**
   * What this store has promised as a voter. Call with the directory's lock held. R11: lost votes are not begun anew.
   * FormatError if newer.
   */
  async openVotes(identity: NodeIdentity): Promise<VoteStore> {
    const { formatVersion } = parseIdentity(await this.#disk.readFile(`${this.path}/node.json`), this.path);
    if (formatVersion < 2) await this.#beginVotes(identity);
    const { storeId } = identity;
    const exists = await this.#disk.exists(this.#votesPath);
    const votes = decodeVotes(exists ? await this.#disk.readFile(this.#votesPath) : undefined, storeId);
    return { votes, save: (state) => this.#disk.writeFileAtomic(this.#votesPath, encodeVotes(storeId, state)) };
  }

  /** FormatError if damaged or newer; UsageError if this is no data directory or one of another cluster. */
  async load(expectedClusterId: string): Promise<{ identity: NodeIdentity; catalog: Catalog }> {
    if (!(await this.isInitialised())) {
      throw new UsageError(`${this.path} is not the data directory of a node`, {
        remedy: 'Begin a cluster with `tatami init`, or join one with `tatami node join ADDRESS`.',
      });
    }
    const identity = parseIdentity(await this.#disk.readFile(`${this.path}/node.json`), this.path);
    if (identity.clusterId !== expectedClusterId) {
      throw new UsageError(
        `${this.path} belongs to cluster ${identity.clusterId.slice(0, 8)}, the key file to ${expectedClusterId.slice(0, 8)}`,
        { remedy: 'Give the key file of that cluster, or another data directory. Nothing was changed.' },
      );
    }
    const catalog = await this.catalog();
    if (catalog.clusterId !== identity.clusterId) {
      throw new FormatError(`${this.path}/catalog.json is of another cluster`, {
        remedy: 'Put back the files of this data directory as they were.',
      });
    }
    return { identity, catalog };
  }

  /** The newest that this node has seen. FormatError if damaged or newer. */
  async catalog(): Promise<Catalog> {
    return decodeCatalog(await this.#disk.readFile(`${this.path}/catalog.json`));
  }

  async saveCatalog(catalog: Catalog): Promise<void> {
    await this.#disk.writeFileAtomic(`${this.path}/catalog.json`, encodeCatalog(catalog));
  }
}

/** Found in the root of a fresh filesystem, or put there by whoever prepares the machine. */
const HARMLESS: ReadonlySet<string> = new Set(['lost+found', 'lock', 'lock.pid', 'node.log', 'cluster.key']);

/** What a creation leaves that was cut short before node.json was there: such a directory has never been a node's. */
const BEGUN = /^((catalog|votes)\.json(\.tmp)?|node\.json\.tmp)$/;

function parseIdentity(bytes: Uint8Array, path: string): NodeIdentity & { readonly formatVersion: number } {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new FormatError(`${path}/node.json is damaged`, { cause: error });
  }
  const version = (value as { formatVersion?: unknown } | null)?.formatVersion;
  if (typeof version === 'number' && version > NODE_FORMAT_VERSION) {
    throw new FormatError(`${path} has format ${version}; this program knows ${NODE_FORMAT_VERSION}`, {
      remedy: 'Run a newer tatamifs on this machine.',
    });
  }
  const parsed = identitySchema.safeParse(value);
  if (!parsed.success) throw new FormatError(`${path}/node.json is damaged`);
  const { formatVersion, clusterId, nodeId, storeId } = parsed.data;
  return { formatVersion, clusterId, nodeId: nodeId as NodeId, storeId };
}
