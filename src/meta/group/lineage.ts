/**
 * R9: which history a member's data belongs to. When an operator forces a group it begins a new history from one node's copy;
 * all other copies are of the old one, whatever they hold beyond it, and must not be merged: they are set aside, never
 * deleted, as soon as the new primary is there to give a full copy.
 */
import type { Group } from '../../catalog/types.ts';
import type { Disk } from '../../env.ts';
import type { HistoryId, NodeId } from '../../ids.ts';

/**
 * `same`: nothing to do. `carries`: it is the copy that the new history began with, and takes the new name. `foreign`: it is
 * of another history.
 */
export type Lineage = 'same' | 'carries' | 'foreign';

/** `historyId` of the data; empty: of a member that has none yet, or of a program that did not write it down. */
export function lineageOf(historyId: HistoryId | '', group: Group, self: NodeId): Lineage {
  if (historyId === '' || historyId === group.historyId) return 'same';
  const { forced } = group;
  return forced?.from === self && forced.historyId === historyId ? 'carries' : 'foreign';
}

/** The group's directory is renamed to `PATH.aside-HISTORY`, with a number behind it if there is one of that name. */
export async function setAside(disk: Disk, path: string, historyId: string): Promise<string> {
  const wanted = `${path}.aside-${historyId}`;
  let aside = wanted;
  for (let number = 2; await disk.exists(aside); number++) aside = `${wanted}-${number}`;
  await disk.rename(path, aside);
  const parent = path.slice(0, path.lastIndexOf('/'));
  await disk.syncDir(parent);
  return aside;
}

/** What a member's copy is worth, for an operator who has to choose one. */
export interface CopyState {
  readonly group: string;
  readonly historyId: string;
  readonly groupEpoch: number;
  /** False: it is not complete, or its log is damaged, so it cannot be chosen; `reason` says why. */
  readonly whole: boolean;
  readonly reason: string;
  readonly lastSeq: number;
  readonly lastEpoch: number;
  /** Of the last change in it, in ms since the Unix epoch, by the primary's clock of then; 0: not known. */
  readonly lastChangeMs: number;
  /** The last entry that a primary has told this process to be committed. */
  readonly heardCommittedSeq: number;
}
