/**
 * Options of mounts as mount(8) and fstab(5) write them: `ro,nosuid,subdir=/projects,cache_memory=512`.
 *
 * Three kinds: of the kernel, of this filesystem, and what is only for mount(8), systemd and the like, which hand all of them to a
 * mount helper. The last are passed over; what is none of these is an error that names it.
 */
import { UsageError } from '../errors.ts';
import { OP_TIMEOUT_MAX_MS, OP_TIMEOUT_MIN_MS } from '../limits.ts';

/** What `tatami mount` can be told, by its own options or by `-o`. */
export interface MountSettings {
  readonly readOnly?: boolean;
  /** Flags for the kernel besides ro and rw, as mount(8) calls them. */
  readonly kernelFlags?: readonly string[];
  /** Other users than the one who mounts may use it; as root they may anyway. */
  readonly allowOther?: boolean;
  /** Only what is below this directory of the filesystem is mounted. */
  readonly subdir?: string;
  /** A file, or `syslog`. */
  readonly log?: string;
  /** Shown as the source in /proc/mounts and df. */
  readonly fsName?: string;
  readonly keyFile?: string;
  readonly localReads?: boolean;
  readonly attrTimeoutMs?: number;
  /** Seconds; 0: no longer than attrTimeoutMs. */
  readonly metadataCache?: number;
  readonly share?: boolean;
  readonly shareListen?: string;
  /** MiB. */
  readonly cacheMemory?: number;
  /** MiB; 0: nothing. */
  readonly prefetch?: number;
  readonly cacheDir?: string;
  /** GiB. */
  readonly cacheSize?: number;
  /** Seconds; 0 never. */
  readonly compactAfter?: number;
  /** Seconds. */
  readonly timeout?: number;
  readonly binding?: 'auto' | 'dev-fuse' | 'fuse-native';
  /** Seconds for which mount(8) tries again while no node answers. */
  readonly mountTimeout?: number;
}

export interface ParsedMountOptions {
  readonly settings: MountSettings;
  /** A mount that exists gets other flags of the kernel. */
  readonly remount: boolean;
  /** noatime was said, and is not only what holds without a word. */
  readonly noAtime: boolean;
  /** Not known, and passed over because that was asked for. */
  readonly unknown: readonly string[];
}

const ACCESS_TIMES = ['noatime', 'relatime'];
/** Flags of the kernel, by what they are about: of each the last one counts. The first is what holds without any. */
const FLAG_FAMILIES: readonly (readonly string[])[] = [
  ['suid', 'nosuid'],
  ['dev', 'nodev'],
  ['exec', 'noexec'],
  ACCESS_TIMES,
  ['diratime', 'nodiratime'],
];
/** Other words for a flag. */
const SYNONYMS: Readonly<Record<string, string>> = { atime: 'relatime', norelatime: 'noatime' };

/** For mount(8), systemd, or about what is so anyway. */
const PASSED_OVER = new Set([
  ...[
    'defaults',
    'auto',
    'noauto',
    '_netdev',
    'nofail',
    'nouser',
    'nousers',
    'noowner',
    'nogroup',
    'async',
    'nostrictatime',
  ],
  ...['nolazytime', 'nomand', 'noiversion', 'silent', 'loud', 'symfollow', 'default_permissions', 'comment'],
  ...['uhelper', 'helper'],
]);
const PASSED_OVER_PREFIX = /^x-/i;
/** What the kernel says of a mount of FUSE: mount(8) repeats it when that is mounted anew (`remount`) and not in fstab. */
const OF_MOUNTED = new Set(['user_id', 'group_id', 'max_read', 'blksize', 'rootmode', 'fd']);
/** What lets users mount implies these, unless a later option says otherwise (mount(8), "user"). */
const OF_USERS: Readonly<Record<string, readonly string[]>> = {
  user: ['noexec', 'nosuid', 'nodev'],
  users: ['noexec', 'nosuid', 'nodev'],
  owner: ['nosuid', 'nodev'],
  group: ['nosuid', 'nodev'],
};
/** Known elsewhere, and a promise that this filesystem would not keep. */
const REFUSED: Readonly<Record<string, string>> = {
  strictatime: 'not every read changes the access time here. relatime keeps it as far as programs depend on it',
  lazytime: 'times are not kept in memory here. Leave it out',
  sync: 'programs decide what is synced (fsync, O_SYNC). Leave it out',
  dirsync:
    'changes of names are on the disks of two nodes, or in their memory for a moment; programs fsync the directory. Leave it out',
  mand: 'there are no mandatory locks. Leave it out',
};

type Own = (value: string, name: string) => MountSettings;

const whole =
  (least: number, most: number, set: (value: number) => MountSettings): Own =>
  (text, name) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return set(value);
    throw new UsageError(`option ${name}=${text}: it is a whole number from ${least} to ${most}`);
  };
const text =
  (set: (value: string) => MountSettings): Own =>
  (value, name) => {
    if (value === '') throw new UsageError(`option ${name} needs a value: ${name}=...`);
    return set(value);
  };
const flag =
  (settings: MountSettings): Own =>
  (value, name) => {
    if (value === '') return settings;
    throw new UsageError(`option ${name} takes no value`);
  };

const ATTR_TIMEOUT_MAX_MS = 3_600_000;
/** Seconds. */
const METADATA_CACHE_MAX = 3_600;
const BINDINGS = ['auto', 'dev-fuse', 'fuse-native'] as const;

/** Of this filesystem. Names with - for _ mean the same. */
const OWN: Readonly<Record<string, Own>> = {
  subdir: text((subdir) => ({ subdir })),
  key_file: text((keyFile) => ({ keyFile })),
  log: text((log) => ({ log })),
  fsname: text((fsName) => ({ fsName })),
  cache_memory: whole(16, 1 << 20, (cacheMemory) => ({ cacheMemory })),
  prefetch: whole(0, 1 << 20, (prefetch) => ({ prefetch })),
  cache_dir: text((cacheDir) => ({ cacheDir })),
  cache_size: whole(1, 1 << 20, (cacheSize) => ({ cacheSize })),
  attr_timeout_ms: whole(0, ATTR_TIMEOUT_MAX_MS, (attrTimeoutMs) => ({ attrTimeoutMs })),
  attr_timeout: (value, name) => {
    const ms = Math.round(Number(value) * 1_000);
    if (/^\d+(\.\d+)?$/.test(value) && ms <= ATTR_TIMEOUT_MAX_MS) return { attrTimeoutMs: ms };
    throw new UsageError(`option ${name}=${value}: it is a number of seconds from 0 to ${ATTR_TIMEOUT_MAX_MS / 1_000}`);
  },
  metadata_cache: whole(0, METADATA_CACHE_MAX, (metadataCache) => ({ metadataCache })),
  compact_after: whole(0, 86_400, (compactAfter) => ({ compactAfter })),
  timeout: whole(OP_TIMEOUT_MIN_MS / 1_000, OP_TIMEOUT_MAX_MS / 1_000, (timeout) => ({ timeout })),
  allow_other: flag({ allowOther: true }),
  mount_timeout: whole(0, 86_400, (mountTimeout) => ({ mountTimeout })),
  share: flag({ share: true }),
  share_listen: text((shareListen) => ({ shareListen })),
  local_reads: flag({ localReads: true }),
  no_local_reads: flag({ localReads: false }),
  binding: (value, name) => {
    const binding = BINDINGS.find((known) => known === value);
    if (binding !== undefined) return { binding };
    throw new UsageError(`option ${name}=${value}: it is one of ${BINDINGS.join(', ')}`);
  },
};

/** Not what every object has. */
function of<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

/** Names for help and messages. */
export const OWN_OPTIONS: readonly string[] = Object.keys(OWN);

/**
 * What a list of options says; of contradicting ones the last counts.
 *
 * @throws UsageError that names the option: not known (unless `sloppy`), a bad value, or a promise that cannot be kept.
 */
export function parseMountOptions(list: string, { sloppy = false } = {}): ParsedMountOptions {
  const flags = new Map<readonly string[], string>();
  const unknown: string[] = [];
  let settings: MountSettings = {};
  let readOnly: boolean | undefined;
  const options = splitOptions(list);
  const remount = options.includes('remount');
  const setFlag = (name: string): boolean => {
    const family = FLAG_FAMILIES.find((names) => names.includes(name));
    if (family !== undefined) flags.set(family, name);
    return family !== undefined;
  };
  for (const option of options) {
    const equals = option.indexOf('=');
    const name = equals < 0 ? option : option.slice(0, equals);
    const value = equals < 0 ? '' : option.slice(equals + 1);
    const own = of(OWN, name.replaceAll('-', '_'));
    const implied = of(OF_USERS, name);
    const refused = of(REFUSED, name);
    if (name === 'ro' || name === 'rw') readOnly = name === 'ro';
    else if (name === 'remount' || (remount && OF_MOUNTED.has(name))) continue;
    else if (implied !== undefined) implied.forEach(setFlag);
    else if (own !== undefined) settings = { ...settings, ...own(value, name) };
    else if (setFlag(SYNONYMS[name] ?? name) || PASSED_OVER.has(name) || PASSED_OVER_PREFIX.test(name)) continue;
    else if (sloppy) unknown.push(option);
    else if (refused !== undefined) throw new UsageError(`option ${name}: ${refused}`);
    else {
      throw new UsageError(`unknown option ${name}`, {
        remedy: `Options of tatamifs: ${OWN_OPTIONS.join(', ')}; those of any filesystem: ro, nosuid, nodev, noexec, noatime, ...`,
      });
    }
  }
  const kernelFlags = [...flags].filter(([[usual], name]) => name !== usual).map(([, name]) => name);
  return {
    settings: {
      ...settings,
      ...(readOnly === undefined ? {} : { readOnly }),
      ...(kernelFlags.length === 0 ? {} : { kernelFlags }),
    },
    remount,
    noAtime: flags.get(ACCESS_TIMES) === 'noatime',
    unknown,
  };
}

/** At commas; those between double quotes belong to the value, as in mount(8). */
function splitOptions(list: string): string[] {
  return [...list.matchAll(/(?:[^,"]|"[^"]*"?)+/g)]
    .map(([option]) => option.replaceAll('"', '').trim())
    .filter(Boolean);
}

/** Where the cluster is, as the first field of a line in fstab says it. */
export interface MountSource {
  /** A data directory of `tatami up` or of a node. */
  readonly data?: string;
  /** Addresses of nodes. */
  readonly connect?: string;
  /** Of addresses with a path behind. */
  readonly subdir?: string;
}

/**
 * `/srv/tatami` (a data directory, absolute, as fstab has no current one), `host:port[,host:port...]`, or this with `:/path` behind:
 * the directory to be mounted.
 *
 * @throws UsageError if it is neither.
 */
export function parseMountSource(source: string): MountSource {
  if (source.startsWith('/')) return { data: source };
  const [, connect = '', subdir] = /^([^/]*?)(?::(\/.*))?$/.exec(source) ?? [];
  const addresses = connect.split(',').filter((address) => address.trim() !== '');
  if (addresses.length > 0 && addresses.every((address) => /^\s*\S+:\d+\s*$/.test(address))) {
    return { connect, ...(subdir === undefined ? {} : { subdir }) };
  }
  throw new UsageError(`${source}: that is no source of tatamifs`, {
    remedy:
      'Write HOST:PORT[,HOST:PORT...][:/DIRECTORY], or the absolute path of a data directory (of `tatami up`, or of a node).',
  });
}

/** How mount(8) calls /sbin/mount.TYPE, and what of it matters. */
export interface HelperCall {
  readonly source: string;
  readonly directory: string;
  readonly options: string;
  /** Options that are not known are passed over. */
  readonly sloppy: boolean;
  /** Everything but mounting. */
  readonly fake: boolean;
  readonly verbose: boolean;
}

/** @throws UsageError for anything but `SOURCE DIR [-sfnvrw] [-o OPTIONS]... [-t TYPE]`. */
export function parseHelperCall(args: readonly string[]): HelperCall {
  const { words, flags, values } = helperWords(args, 'sfnvrwi', 'otN');
  const [source, directory, ...more] = words;
  if (source === undefined || directory === undefined || more.length > 0) {
    throw new UsageError('usage: mount.tatamifs SOURCE DIR [-sfnv] [-o OPTIONS]', {
      remedy: 'It is called by mount(8): mount -t tatamifs SOURCE DIR -o OPTIONS',
    });
  }
  refuseNamespace(values);
  const given = values.filter(([flag]) => flag === 'o').map(([, value]) => value);
  if (flags.has('r')) given.push('ro');
  if (flags.has('w')) given.push('rw');
  return {
    ...{ source, directory, options: given.join(',') },
    ...{ sloppy: flags.has('s'), fake: flags.has('f'), verbose: flags.has('v') },
  };
}

/** How umount(8) calls /sbin/umount.fuse.tatamifs. */
export interface UnmountCall {
  readonly directory: string;
  /** Flags that mean something other than to unmount and wait. */
  readonly flags: readonly string[];
  readonly verbose: boolean;
}

/** @throws UsageError for anything but `DIR [-flnrv] [-t TYPE]`. */
export function parseUnmountCall(args: readonly string[]): UnmountCall {
  const { words, flags, values } = helperWords(args, 'flnrvi', 'otN');
  const [directory, ...more] = words;
  if (directory === undefined || more.length > 0) {
    throw new UsageError('usage: umount.fuse.tatamifs DIR [-flnrv]', {
      remedy: 'It is called by umount(8): umount DIR',
    });
  }
  refuseNamespace(values);
  return { directory, flags: ['f', 'l', 'r'].filter((flag) => flags.has(flag)), verbose: flags.has('v') };
}

function refuseNamespace(values: readonly (readonly [string, string])[]): void {
  if (values.some(([flag]) => flag === 'N')) {
    throw new UsageError('option -N: another namespace is entered by nsenter, not here', {
      remedy: 'Run: nsenter --mount=FILE mount -t tatamifs SOURCE DIR',
    });
  }
}

/** Words, flags (which may be written together) and flags with a value. */
function helperWords(args: readonly string[], withoutValue: string, withValue: string) {
  const words: string[] = [];
  const flags = new Set<string>();
  const values: [string, string][] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] as string;
    if (!/^-./.test(arg)) {
      words.push(arg);
      continue;
    }
    for (let at = 1; at < arg.length; at++) {
      const letter = arg.charAt(at);
      if (withoutValue.includes(letter)) flags.add(letter);
      else if (withValue.includes(letter)) {
        const value = at + 1 < arg.length ? arg.slice(at + 1) : args[++index];
        if (value === undefined) throw new UsageError(`option -${letter} needs a value`);
        values.push([letter, value]);
        break;
      } else throw new UsageError(`unknown option ${arg.startsWith('--') ? arg : `-${letter}`}`);
    }
  }
  return { words, flags, values };
}
