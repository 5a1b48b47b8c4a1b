/**
 * /sbin/mount.tatamifs and /sbin/umount.fuse.tatamifs: what mount(8) and umount(8) call for this type of filesystem. Exit codes are
 * theirs: 1 wrong use, 2 the system failed, 8 interrupted, 32 it could not be mounted.
 */
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FsError, TatamiError, UsageError } from '../../errors.ts';
import { FS_TYPE, readMountTable } from '../../fuse/mount-point.ts';
import { findMount } from '../../fuse/mount-table.ts';
import { runTool } from '../../fuse/tools.ts';
import { EXIT, exitCodeOf } from '../exit-codes.ts';
import {
  parseHelperCall,
  parseMountOptions,
  parseMountSource,
  parseUnmountCall,
  type HelperCall,
  type MountSettings,
  type ParsedMountOptions,
  type MountSource,
} from '../mount-options.ts';
import { note } from '../output.ts';
import { mountInBackground } from './mount.ts';
import { umount } from './umount.ts';

const MOUNT_EXIT = { ok: 0, usage: 1, system: 2, interrupted: 8, failed: 32 } as const;

/** Where the key is looked for if neither `key_file=` nor TATAMI_KEY_FILE says it. */
export const USUAL_KEY_FILE = '/etc/tatamifs/cluster.key';
/** Of mounts of root that are given no log. */
const LOG_DIRECTORY = '/var/log/tatamifs';
/** Between two attempts. */
const RETRY_MS = 1_000;

/** `SOURCE DIR [-sfnv] [-o OPTIONS]`; returns when the mount serves, or with what went wrong on standard error. */
export async function mountHelper(args: readonly string[]): Promise<number> {
  const name = 'mount.tatamifs';
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => process.exit(MOUNT_EXIT.interrupted));
  }
  let call: HelperCall;
  let source: MountSource;
  let parsed: ParsedMountOptions;
  try {
    call = parseHelperCall(args);
    parsed = parseMountOptions(call.options, { sloppy: call.sloppy });
    source = parseMountSource(call.source);
    checkTogether(parsed.settings, source);
  } catch (error) {
    tell(name, error);
    return MOUNT_EXIT.usage;
  }
  for (const option of parsed.unknown) if (call.verbose) note(`${name}: option ${option} is not known and passed over`);
  const path = resolve(call.directory);
  try {
    if (parsed.remount) return await remount(name, call, path, parsed);
    if (call.fake) return MOUNT_EXIT.ok;
    const { keyFile = process.env['TATAMI_KEY_FILE'], mountTimeout = 0, ...settings } = parsed.settings;
    const ofAddresses = source.connect === undefined ? undefined : USUAL_KEY_FILE;
    const key = keyFile ?? ofAddresses;
    const options = {
      ...settings,
      ...source,
      ...(key === undefined ? {} : { keyFile: key }),
      fsName: call.source,
      umountHelper: true,
    };
    const elseLog = process.geteuid?.() === 0 ? logOf(path) : undefined;
    await untilReachable(mountTimeout * 1_000, () => mountInBackground(path, options, elseLog));
    if (call.verbose) note(`${name}: ${call.source} mounted at ${path}`);
    return MOUNT_EXIT.ok;
  } catch (error) {
    tell(name, error);
    return error instanceof TatamiError ? MOUNT_EXIT.failed : MOUNT_EXIT.system;
  }
}

/** At the start of a site the nodes come up beside the machines that mount. */
async function untilReachable(timeoutMs: number, attempt: () => Promise<void>): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (exitCodeOf(error) !== EXIT.unavailable || performance.now() + RETRY_MS > deadline) throw error;
      await sleep(RETRY_MS);
    }
  }
}

function checkTogether({ subdir, cacheSize, cacheDir }: MountSettings, source: MountSource): void {
  if (subdir !== undefined && source.subdir !== undefined && subdir !== source.subdir) {
    throw new UsageError(`the source names ${source.subdir} and subdir= ${subdir}`, { remedy: 'Give one of them.' });
  }
  if (cacheSize !== undefined && cacheDir === undefined) {
    throw new UsageError('option cache_size is of a cache on disk: cache_dir= is missing', {
      remedy: 'Name a directory of this machine; for memory it is cache_memory=MIB.',
    });
  }
}

/** One log a mount point: `/mnt/a b` logs to `mnt-a_b.log`. */
function logOf(path: string): string {
  const name = path
    .slice(1)
    .replaceAll('/', '-')
    .replace(/[^\w.-]/g, '_');
  return `${LOG_DIRECTORY}/${name === '' ? 'root' : name.slice(0, 200)}.log`;
}

/** What the kernel decides alone can be changed: it refuses ro while files are open for writing. All else needs a new mount. */
async function remount(name: string, call: HelperCall, path: string, parsed: ParsedMountOptions): Promise<number> {
  const mounted = findMount(await readMountTable(), path);
  if (mounted?.fsType !== FS_TYPE) {
    throw new UsageError(`remount: no tatamifs is mounted at ${path}`, { remedy: 'Mount it first.' });
  }
  if (call.fake) return MOUNT_EXIT.ok;
  const { readOnly = false, kernelFlags = [] } = parsed.settings;
  // The process that serves the mount keeps access times, or does not.
  const keepsTimes = mounted.options.includes('relatime');
  const other = keepsTimes ? parsed.noAtime && 'noatime' : kernelFlags.includes('relatime') && 'relatime';
  if (other !== false) {
    throw new UsageError(`remount: ${other} needs a new mount`, { remedy: `umount ${path}, and mount it again.` });
  }
  const times = keepsTimes ? [] : ['noatime'];
  const flags = ['remount', readOnly ? 'ro' : 'rw', ...times, ...kernelFlags].join(',');
  const { code, message } = await runTool('mount', ['-i', '-t', FS_TYPE, '-o', flags, mounted.source, path]);
  if (code === 0) return MOUNT_EXIT.ok;
  note(`${name}: ${message}`);
  return code ?? MOUNT_EXIT.system;
}

/** `DIR [-flnrv]`; without -f, -l and -r it returns when the mount's process has written everything and ended. */
export async function umountHelper(args: readonly string[]): Promise<number> {
  const name = `umount.${FS_TYPE}`;
  let call: ReturnType<typeof parseUnmountCall>;
  try {
    call = parseUnmountCall(args);
  } catch (error) {
    tell(name, error);
    return MOUNT_EXIT.usage;
  }
  const path = resolve(call.directory);
  if (call.flags.length > 0) {
    const { code, message } = await runTool('umount', ['-i', ...call.flags.map((flag) => `-${flag}`), path]);
    if (code !== 0) note(`${name}: ${message}`);
    return code ?? MOUNT_EXIT.system;
  }
  try {
    await umount(path, { quiet: !call.verbose });
    return MOUNT_EXIT.ok;
  } catch (error) {
    const busy = error instanceof FsError && error.code === 'EBUSY';
    tell(name, error, busy ? `End what uses it, or only take its name away: umount -l ${call.directory}` : undefined);
    return error instanceof TatamiError ? MOUNT_EXIT.failed : MOUNT_EXIT.system;
  }
}

function tell(name: string, error: unknown, remedy = error instanceof TatamiError ? error.remedy : undefined): void {
  note(`${name}: ${error instanceof Error ? error.message : String(error)}`);
  if (remedy !== undefined) note(`  ${remedy}`);
}
