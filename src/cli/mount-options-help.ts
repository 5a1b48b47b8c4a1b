/** For `tatami mount --help`; apart from mount-options.ts, so that a command that mounts nothing does not load it. */
export const MOUNT_OPTIONS_HELP: readonly string[] = [
  'subdir=PATH                mount only what is below this directory',
  'key_file=FILE              the cluster key (/sbin/mount.tatamifs: default /etc/tatamifs/cluster.key)',
  'cache_memory=MIB           memory for blocks that were read, at most (128)',
  'prefetch=MIB               of files read at random so much is fetched ahead, within 5 minutes (a quarter of the memory); 0: nothing',
  'cache_dir=DIR, cache_size=GIB  and a disk for them (10)',
  'attr_timeout=SECONDS       within this others’ changes of names and attributes show (1); 0: at once, nothing is cached',
  'metadata_cache=SECONDS     how long unchanged ones are cached (60); 0: no longer than attr_timeout',
  'compact_after=SECONDS      small pieces of a file are put together when it was quiet for so long (10); 0: never',
  'timeout=SECONDS            how long an operation waits for nodes that do not answer (30)',
  'mount_timeout=SECONDS      how long mount(8) tries again while no node answers (0: once)',
  'log=FILE, log=syslog       where the mount tells of trouble (/var/log/tatamifs/DIR.log, of mount(8))',
  'share, share_listen=HOST:PORT, no_local_reads, allow_other, binding=NAME, fsname=NAME',
];
