/** Opening a member's log beside its table: what is done when they are damaged or do not fit together. */
import type { Disk } from '../../env.ts';
import { CorruptionError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { GroupLog } from './log-files.ts';

export interface OpenLogOptions {
  readonly disk: Disk;
  /** The group's directory. */
  readonly path: string;
  readonly log: Logger;
  readonly isPrimary: boolean;
  readonly segmentBytes?: number;
  readonly table: { readonly appliedSeq: number; readonly incomplete: boolean };
}

export interface OpenedLog {
  readonly log: GroupLog;
  /** Why this member cannot take part at all. */
  readonly broken?: string;
  /** The log was damaged: this member takes a full copy, and until then what it has does not count (R8). */
  readonly damaged?: boolean;
}

/**
 * A follower's damaged log is set aside and the member takes a full copy; its table stays until that begins. A primary
 * keeps everything where it is, however often it is started: nothing here may make it serve with less than it had.
 */
export async function openLog(options: OpenLogOptions): Promise<OpenedLog> {
  const { disk, isPrimary, table, segmentBytes } = options;
  const path = `${options.path}/log`;
  const files = { disk, path, log: options.log, ...(segmentBytes === undefined ? {} : { segmentBytes }) };
  try {
    const log = await GroupLog.open(files);
    if (isPrimary && table.incomplete) return { log, broken: 'its copy of the metadata is incomplete' };
    if (table.incomplete || log.lastSeq >= table.appliedSeq) return { log };
    const { lastSeq } = log;
    await log.close();
    throw new CorruptionError(`the log ends at entry ${lastSeq}, the table is at ${table.appliedSeq}`);
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    options.log.error({ path, error: error.message }, 'the log of the group is damaged');
    if (isPrimary) {
      const unused = `${options.path}/log.unused`;
      await disk.remove(unused);
      const log = await GroupLog.open({ ...files, path: unused });
      return { log, broken: `its log is damaged (${error.message}); nothing of it was changed` };
    }
    // Kept for whoever wants to look; the primary has all of it.
    const aside = `${path}.damaged`;
    await disk.remove(aside);
    await disk.rename(path, aside);
    await disk.syncDir(options.path);
    return { log: await GroupLog.open(files), damaged: true };
  }
}
