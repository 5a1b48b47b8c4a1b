/**
 * The catalog: who is in the cluster, which group is served by whom, pools, tablets. One versioned document that every
 * node and client holds (Droonga's catalog, Ceph's maps). Only compare-and-set changes it.
 */
import type { Address } from '../env.ts';
import type { Epoch, GroupId, HistoryId, Ino, NodeId, PoolId } from '../ids.ts';
import type { CatalogFact } from './history.ts';

/**
 * 2: nodes have a `kind`, and `recent`. 3: `draining`, `placedAs`, `removed`, `handedOver`, `forced`; `atMs` and `facts` in
 * `recent`, `since` in groups. 4: `out` in nodes, `repairAfterMs`.
 * 5: `balancePaused`, `collectEveryMs`. Catalogs of earlier formats are read; their next epoch is written as the present one.
 */
export const CATALOG_FORMAT_VERSION = 5;

export interface Catalog {
  readonly formatVersion: number;
  /** Random, 32 hexadecimal characters; a node of another cluster is refused. */
  readonly clusterId: string;
  readonly epoch: Epoch;
  /** Who owns the root directory of the tables that members begin with; root where absent. Never changes. */
  readonly rootOwner?: RootOwner;
  /** A node that is down for so long is left out of placement. Absent: {@link REPAIR_AFTER_MS}; null: never. */
  readonly repairAfterMs?: number | null;
  /** Copies are made only where they are too few, not to level the nodes or to empty one. Absent: no. */
  readonly balancePaused?: boolean;
  /** The filesystem pools are swept of what no file uses so often. Absent: {@link COLLECT_EVERY_MS}; null: never. */
  readonly collectEveryMs?: number | null;
  readonly nodes: readonly CatalogNode[];
  /** Nodes that decide on the next catalog, by Paxos. 1, 3 or 5; an even number only in passing. */
  readonly voters: readonly NodeId[];
  readonly pools: readonly Pool[];
  readonly groups: readonly Group[];
  /** Sorted by firstIno, gap-free from 1. */
  readonly tablets: readonly Tablet[];
  /** Who made the latest epochs, oldest first: so whoever proposed can learn by reading whether it won. Absent in format 1. */
  readonly recent?: readonly ChosenProposal[];
  /** Nodes that were taken out, oldest first; bounded. Neither their names nor their stores come back. */
  readonly removed?: readonly RemovedNode[];
}

export interface RemovedNode {
  readonly id: NodeId;
  readonly storeId: string;
  /** First catalog without it. */
  readonly epoch: Epoch;
}

export interface ChosenProposal {
  readonly epoch: Epoch;
  /** Drawn at random by the proposer, 16 hexadecimal characters. */
  readonly proposal: string;
  /** When it was decided, by the wall clock of the voter that decided. Absent before format 3. */
  readonly atMs?: number;
  /** What it changed, for `tatami events`. */
  readonly facts?: readonly CatalogFact[];
}

export interface RootOwner {
  readonly uid: number;
  readonly gid: number;
}

export interface CatalogNode {
  readonly id: NodeId;
  /** A witness votes and holds no data: never in placement, never a member of a group. Absent: a node with data. */
  readonly kind?: 'witness';
  /** Random, made with the data directory: another disk under an old name is another store. */
  readonly storeId: string;
  readonly address: Address;
  /** Share of data it takes: capacity in GiB, at least 1. */
  readonly weight: number;
  /** Failure domains. */
  readonly host: string;
  readonly rack: string;
  readonly zone: string;
  /** It is being taken out of service: gets no new blocks, and gives up its vote and its part in groups. Absent: no. */
  readonly draining?: true;
  /**
   * It has been down for too long, and its blocks get their copies elsewhere: placement leaves it out until it is back. Set
   * and taken away by the cluster itself. Votes, groups and what is to be replicated count with it as before. Absent: no.
   */
  readonly out?: true;
  /** It has taken the place of a node of that name, and stands in placement under it. Absent: under its own. */
  readonly placedAs?: NodeId;
}

export type FailureDomain = 'node' | 'host' | 'rack' | 'zone';

export interface Pool {
  readonly id: PoolId;
  readonly name: string;
  /** A filesystem's blocks are swept by garbage collection and never deleted by callers; a library's the reverse. */
  readonly kind: 'filesystem' | 'library';
  readonly copies: number;
  /** Files are cut at multiples of this; a power of two, PAGE_BYTES..BLOCK_MAX_BYTES. */
  readonly blockSizeBytes: number;
  /** Power of two. */
  readonly pgCount: number;
  /** Copies are kept in different ones while there are enough. */
  readonly domain: FailureDomain;
  /** Exceptions to straw2: placement group -> ordered nodes that replace the head of its list. */
  readonly upmap: Readonly<Record<number, readonly NodeId[]>>;
  /** Epoch at which some placement list of the pool last changed; puts with an older catalog are refused. */
  readonly placementEpoch: Epoch;
}

/** What can be chosen of a pool, and changed while it is in use. */
export type PoolSettings = Pick<Pool, 'copies' | 'blockSizeBytes' | 'pgCount' | 'domain'>;

/** A pool that is to be made; its number is given to it. */
export type NewPool = PoolSettings & Pick<Pool, 'name' | 'kind'>;

export interface Group {
  readonly id: GroupId;
  /** The group's own epoch, not the catalog's: it grows when this entry's members change (R6). */
  readonly epoch: Epoch;
  readonly historyId: HistoryId;
  readonly primary: NodeId;
  readonly secondary: NodeId | null;
  readonly learners: readonly NodeId[];
  readonly lastActivated: { readonly epoch: Epoch; readonly members: readonly NodeId[] };
  /** Replicas that must hold a write before it is acknowledged (R4): 1 or 2. */
  readonly minReplicas: number;
  /**
   * R5: the primary was made so by the one before it, which had stopped answering before it asked for that, and whose log was
   * all in the new one's. So no lease has to run out. Absent: it took over by itself.
   */
  readonly handedOver?: true;
  /** R9: how the present history began, if by an operator. */
  readonly forced?: ForcedHistory;
  /** Since when primary and secondary are what they are, by wall clocks; for people. Absent: since before format 3. */
  readonly since?: { readonly primaryMs?: number; readonly secondaryMs?: number };
}

export interface ForcedHistory {
  /** Whose copy it began with. */
  readonly from: NodeId;
  /** The history before it. Copies of it (other than that one) are set aside. */
  readonly historyId: HistoryId;
  /** First epoch of the group in the new history. */
  readonly epoch: Epoch;
}

/** A range of inode numbers, [firstIno, next tablet's firstIno). */
export interface Tablet {
  readonly firstIno: Ino;
  readonly group: GroupId;
}

/** What a holder of the catalog can ask of it; behind it stands Paxos among the voters. */
export interface CatalogService {
  /** The newest catalog this process has seen. */
  current(): Catalog;
  /** Called after each newer catalog is durable here. Returns the unsubscriber. */
  subscribe(callback: (catalog: Catalog) => void): () => void;
  /**
   * Compare-and-set: `change` is applied to the newest chosen catalog if its epoch is `expected`, else ConflictError
   * (read again, decide again). Resolves with the chosen catalog once it is durable at a majority of the voters.
   * UnavailableError when no majority could be had in time: then the outcome is open, and the next catalog tells it.
   * Only nodes propose.
   */
  propose(expected: Epoch, change: CatalogChange, timeoutMs: number): Promise<Catalog>;
  /**
   * The newest chosen catalog, for sure: none that was chosen before the call is newer than the one it resolves with.
   * Asks a majority of the voters; UnavailableError if there is none.
   */
  confirm(timeoutMs: number): Promise<Catalog>;
  /** Asks some other nodes whether there is a newer catalog: `silent` does not answer. Never rejects. */
  lookForNewer?(silent: NodeId): Promise<void>;
}

/** Changes travel as data so that voters can check them. */
export type CatalogChange =
  | { readonly kind: 'putNode'; readonly node: CatalogNode }
  | { readonly kind: 'setDraining'; readonly id: NodeId; readonly draining: boolean }
  | { readonly kind: 'setOut'; readonly id: NodeId; readonly out: boolean }
  | { readonly kind: 'setRepairAfter'; readonly afterMs: number | null }
  | { readonly kind: 'setBalancePaused'; readonly paused: boolean }
  | { readonly kind: 'setCollectEvery'; readonly everyMs: number | null }
  | { readonly kind: 'removeNode'; readonly id: NodeId }
  | { readonly kind: 'replaceNode'; readonly id: NodeId; readonly node: CatalogNode }
  /** One voter more or one less than before. */
  | { readonly kind: 'putVoters'; readonly voters: readonly NodeId[] }
  | { readonly kind: 'createPool'; readonly pool: NewPool }
  | { readonly kind: 'setPool'; readonly id: PoolId; readonly set: Partial<PoolSettings> }
  | { readonly kind: 'putGroup'; readonly group: Group; readonly expectedGroupEpoch: Epoch }
  /** R9: an operator makes `from` the primary of a new history, whatever the last activation says. */
  | {
      readonly kind: 'forceGroup';
      readonly group: GroupId;
      readonly from: NodeId;
      readonly historyId: HistoryId;
      readonly expectedGroupEpoch: Epoch;
    };
