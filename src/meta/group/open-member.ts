/** Opens what a member is made of: its state, table and log, in the order in which they depend on each other. */
import type { Group } from '../../catalog/types.ts';
import type { Kv } from '../../env.ts';
import { MiB } from '../../limits.ts';
import { MetaStore } from '../meta-store.ts';
import { lineageOf, setAside } from './lineage.ts';
import type { GroupLog } from './log-files.ts';
import { findGroup } from './member-options.ts';
import type { GroupMemberOptions } from './member-options.ts';
import { MemberState } from './member-state.ts';
import { openLog } from './open-log.ts';
import type { OpenedLog } from './open-log.ts';
import { ALL_RULES } from './rules.ts';
import { Succession } from './succession.ts';

/** Bound on the table's memory should the disk not keep up; applying waits there. */
const OVERLAY_MAX_BYTES = 32 * MiB;

export interface MemberParts {
  readonly group: Group;
  readonly kv: Kv;
  readonly store: MetaStore;
  readonly succession: Succession;
  readonly opened: OpenedLog;
}

export async function openParts(o: GroupMemberOptions): Promise<MemberParts> {
  const group = findGroup(o);
  const { disk } = o.env;
  const statePath = `${o.path}/state.json`;
  await disk.mkdir(o.path);
  let state = await MemberState.open(disk, statePath);
  if (o.setAside === true && lineageOf(state.facts.historyId, group, o.self) === 'foreign') {
    const aside = await setAside(disk, o.path, state.facts.historyId);
    o.log.warn({ group: group.id, aside }, 'R9: the copy of another history is set aside');
    await disk.mkdir(o.path);
    state = await MemberState.open(disk, statePath);
  }
  const kv = await disk.openKv(`${o.path}/table`);
  try {
    // After a power failure the table must never be ahead of the log.
    const opened: { log?: GroupLog } = {};
    const beforeWrite = async () => void (await opened.log?.sync());
    const { rootOwner } = o.catalog.current();
    const store = await MetaStore.open({
      kv,
      overlayMaxBytes: OVERLAY_MAX_BYTES,
      beforeWrite,
      ...(rootOwner === undefined ? {} : { rootOwner }),
    });
    const isPrimary = group.primary === o.self;
    const found = await openLog({
      disk,
      path: o.path,
      log: o.log,
      isPrimary,
      table: store,
      ...(o.bounds?.segmentBytes === undefined ? {} : { segmentBytes: o.bounds.segmentBytes }),
    });
    opened.log = found.log;
    const { self, env, catalog, log } = o;
    const rules = o.rules ?? ALL_RULES;
    const loggedCount = found.log.lastSeq;
    const succession = await Succession.open({
      self,
      env,
      catalog,
      log,
      state,
      loggedCount,
      group,
      rules,
    });
    return { group, kv, store, succession, opened: found };
  } catch (error) {
    await kv.close();
    throw error;
  }
}
