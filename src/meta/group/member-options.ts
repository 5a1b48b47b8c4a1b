/** What a member of a group is opened with, and its bounds. */
import type { CatalogService, Group } from '../../catalog/types.ts';
import type { Env } from '../../env.ts';
import { UnavailableError } from '../../errors.ts';
import type { GroupId, NodeId } from '../../ids.ts';
import { MiB } from '../../limits.ts';
import type { Logger } from '../../log.ts';
import type { Network } from '../../net/types.ts';
import type { GroupStatus } from '../types.ts';
import type { GroupRules } from './rules.ts';

/** Bounds that tests make smaller. */
export interface GroupBounds {
  /** The table follows the log this often. */
  readonly flushIntervalMs: number;
  /** Log kept for members that are behind and for full copies under way; beyond it they start over with a full copy. */
  readonly logKeepBytes: number;
  /** Space is freed in steps of this; default: log-files.ts. */
  readonly segmentBytes?: number;
}

export const DEFAULT_BOUNDS: GroupBounds = { flushIntervalMs: 2_000, logKeepBytes: 256 * MiB };

export interface GroupMemberOptions {
  readonly self: NodeId;
  readonly group: GroupId;
  readonly env: Env;
  readonly network: Network;
  readonly catalog: CatalogService;
  /** Directory of this group on this node. */
  readonly path: string;
  readonly log: Logger;
  /** A safety rule was broken: the node must stop. */
  readonly onFatal: (error: Error) => void;
  /** This member cannot use its log as the primary it was, and is none any more: open it anew, as a follower. */
  readonly onReopen?: (setAside: boolean) => void;
  /** R9: what is there is of another history: it is set aside, and the member begins empty. */
  readonly setAside?: boolean;
  readonly bounds?: GroupBounds;
  /** Tests switch single clauses off. */
  readonly rules?: GroupRules;
}

/** The group as this node's catalog has it. */
export function findGroup(o: GroupMemberOptions): Group {
  const group = o.catalog.current().groups.find((candidate) => candidate.id === o.group);
  if (group === undefined) throw new UnavailableError(`there is no group ${o.group}`);
  return group;
}

export function roleOf(group: Group, self: NodeId): GroupStatus['role'] {
  if (group.primary === self) return 'primary';
  if (group.secondary === self) return 'secondary';
  return group.learners.includes(self) ? 'learner' : 'none';
}
