/**
 * Before an orderly end of the process: a primary hands over to its secondary, a secondary asks to be replaced. Both for a
 * bounded time: what cannot be done in it is what would happen after a crash.
 */
import type { CatalogService, Group } from '../../catalog/types.ts';
import type { Clock } from '../../env.ts';
import type { NodeId } from '../../ids.ts';

/** Three changes of the catalog and a few round trips take a tenth of it; `tatami down` waits twice as long for a node. */
export const LEAVE_TIMEOUT_MS = 1_000;
const LOOK_INTERVAL_MS = 10;

export interface LeaveOptions {
  readonly self: NodeId;
  readonly group: string;
  readonly clock: Clock;
  readonly catalog: CatalogService;
  /** As primary: does what is due. False once it is clear that nothing comes of it. */
  readonly handOver: () => boolean;
  /** As secondary: tells the primary. False, or a rejection, if nobody can take its place. */
  readonly tellPrimary: (timeoutMs: number) => Promise<boolean>;
}

/** True if this node is neither primary nor secondary any more. Never rejects. */
export async function leaveGroup(o: LeaveOptions): Promise<boolean> {
  const untilMs = o.clock.monotonicMs() + LEAVE_TIMEOUT_MS;
  for (let toldEpoch = 0; ;) {
    const group = o.catalog.current().groups.find(({ id }) => id === o.group);
    const role = group === undefined ? 'none' : roleIn(group, o.self);
    if (group === undefined || role === 'none') return true;
    const leftMs = untilMs - o.clock.monotonicMs();
    if (leftMs <= 0) return false;
    if (role === 'primary' && !o.handOver()) return false;
    // A primary that is not activated yet may need this node as its secondary.
    if (role === 'secondary' && group.lastActivated.epoch === group.epoch && toldEpoch < group.epoch) {
      toldEpoch = group.epoch;
      if (!(await o.tellPrimary(leftMs).catch(() => false))) return false;
    }
    await o.clock.sleep(Math.min(LOOK_INTERVAL_MS, leftMs));
  }
}

function roleIn({ primary, secondary }: Group, self: NodeId): 'primary' | 'secondary' | 'none' {
  return primary === self ? 'primary' : secondary === self ? 'secondary' : 'none';
}
