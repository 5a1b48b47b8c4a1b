#!/usr/bin/env node
/**
 * The `tatami` command. Each command's module is loaded only when it runs, so that `tatami --help` is quick.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { OP_TIMEOUT_MAX_MS, OP_TIMEOUT_MIN_MS } from '../limits.ts';
import { EXIT, exitCodeOf } from './exit-codes.ts';
import { helperCall } from './helper-call.ts';
import { endQuietlyWithoutReader } from './interruption.ts';
import { addGroupCommands, addNodeCommands } from './node-program.ts';
import { MOUNT_OPTIONS_HELP } from './mount-options-help.ts';
import { printError } from './output.ts';
import { ROOT } from './places.ts';
import { addPoolCommands } from './pool-program.ts';
import { count, withCluster } from './program-options.ts';
import { parseSince, parseSpan } from './since.ts';
import { tellParent } from './spawn.ts';

const VERSION = (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }).version;

const EXIT_HELP = `
Exit codes:
  0  done
  1  the operation failed; the message says why
  2  wrong arguments, files or configuration; nothing was changed
  3  the cluster, or too much of it, cannot be reached
  4  done, and what it reports is not well (degraded, damaged, missing)
  130  interrupted

Environment:
  TATAMI_DATA                      data directory of the one-machine cluster (default ./tatami-data)
  TATAMI_CONNECT, TATAMI_KEY_FILE  the same as --connect and --key-file
  TATAMI_TOKEN                     the same as --token of \`tatami node join\`
  TATAMI_DEBUG                     print stack traces with errors`;

const TIMEOUT_HELP = 'how long an operation of the mount waits for nodes that do not answer, in seconds (default 30)';
const seconds = count(OP_TIMEOUT_MIN_MS / 1_000, OP_TIMEOUT_MAX_MS / 1_000);

const SCRUB_HELP = `
Without --now or --wait it shows how things stand. Ctrl-C ends the waiting; the scrub itself goes on at the nodes.

Exit codes: 0 done; 4 some damage could not be mended, or a node did not answer; 3 a node that was waited for is gone.`;

const REPAIR_HELP = `
Repair begins by itself. A block of which one copy is left is copied after seconds, before all others.
\`tatami fsck\` names the files whose blocks lack copies; \`tatami node drain\` empties a node that is to go.

Exit codes: 0 done; 4 a node is down; 130 the waiting was interrupted (the nodes go on).`;

const WARMUP_HELP = `
It reads through the mount: what fits stays in the kernel's page cache, and the mount's own (--cache-memory and
--cache-dir of \`tatami mount\`), from which other readers are served, too. Symbolic links are not followed.

Exit codes: 0 all was read; 4 some files could not be read: they are named, each with the reason.`;

const MOUNT_HELP = `
Options for -o are those of mount(8) that a filesystem knows (ro, nosuid, nodev, noexec, relatime) and
  ${MOUNT_OPTIONS_HELP.join('\n  ')}
Reads change access times only with relatime. \`tatami install-helpers\` makes
  mount -t tatamifs HOST:PORT,HOST:PORT DIR -o key_file=FILE,subdir=/projects
and lines of /etc/fstab work: docs/operations.md, packaging/README.md.`;

const HELPERS_HELP = `
It writes /sbin/mount.tatamifs, /sbin/mount.fuse.tatamifs and /sbin/umount.fuse.tatamifs, which run this program from where it is
now, and, with systemd, /etc/systemd/system/tatami-node@.service. Call it again when the program or Node has moved.`;

const CLONE_HELP = `
Both then share the blocks that they have in common, and the space for them, until one is changed. Kept are modes, owners, times,
extended attributes, holes, hard links within the tree, and the pools of directories. A file alone goes to the pool of its new
directory; if that is another one, its bytes are copied. On a mount, cp and copy_file_range(2) share blocks in the same way.

It is no snapshot: what others change meanwhile may be in it or not. The copy appears when it is whole; until then it is beside
its place, named .tatami-clone-NUMBER. If the command fails or is interrupted, that is removed; what cannot be removed is named.

Exit codes: 0 done; 130 interrupted; others as for every command.`;

const COMPACT_HELP = `
A mount does this by itself with what was written through it, ten seconds after the writing has ended (\`tatami mount --compact-after\`),
and with what is read in order through it. This command is for what was left behind, by a mount that ended before: \`tatami stat\`
shows in how many extents a file is, and how few would do.

Content and times do not change, holes stay. Files may be in use and be written meanwhile: where somebody writes just then, his bytes stay
and the stretch is left as it is. What was put together is stored anew, so clones no longer share it; the space of the old
pieces comes back with the next garbage collection.`;

const FSCK_HELP = `
It tells of blocks that are
  unreadable        on no node that answers
  under-replicated  on fewer nodes than their pool wants
  misplaced         on enough nodes, but not on those where they belong
  damaged-copy      found to be rotten on a node (mended-copy: and mended since)
  orphaned          used by no file: \`tatami gc\` gives their space back; nothing else deletes them
It asks the nodes what they have and does not read the data: \`tatami scrub --now --wait\` does.

Exit codes: 0 nothing is wrong, or all of it was repaired (mended and orphaned do not count);
4 something is wrong, or is left after --repair; others as for every command.`;

const GC_HELP = `
It happens by itself every hour if something was changed, and within minutes when a disk is 85% full; \`tatami status\`
says when it was last done. What is being written is never taken, and pools of libraries are not looked at.`;

const BALANCE_HELP = `
A node that joins gets its share, a node that is drained or removed leaves it to the others, by itself: some 15 s after
the last such change, so that nodes that join one after the other are filled in one go. Copying takes a seventh of a node's
time while somebody else waits for its disk. While it is paused, blocks of which copies are lost still get new ones; a
drain waits.`;

function days(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && value >= 0 && value <= 3650) return value;
  throw new InvalidArgumentError('It is a number from 0 to 3650.');
}

function buildProgram(): Command {
  const program = new Command('tatami')
    .description('tatamifs: a distributed filesystem of replicated metadata and striped blocks')
    .version(VERSION)
    .addHelpText('after', EXIT_HELP)
    .enablePositionalOptions()
    .exitOverride()
    .showHelpAfterError('  `tatami --help` lists the commands, `tatami COMMAND --help` says what each takes.')
    .configureOutput({ writeErr: (text) => process.stderr.write(text) });

  program.commandsGroup('One machine:');
  program
    .command('up')
    .description('start a cluster on this machine and mount it; on one that runs, start again what has died')
    .option('--data <dir>', 'where its data is kept (default ./tatami-data)')
    .option('--mount <dir>', 'where to mount it (default ./tatami-mnt)')
    .option('--no-mount', 'start the nodes only')
    .option('--nodes <n>', 'nodes of a new cluster', count(1, 64))
    .option('--copies <n>', 'copies of each block in a new cluster (default 3, or as many as nodes)', count(1, 16))
    .option('--detach', 'return as soon as the mount answers')
    .option('--timeout <s>', TIMEOUT_HELP, seconds)
    .addOption(
      new Option('--binding <name>', 'how to reach the kernel')
        .choices(['auto', 'dev-fuse', 'fuse-native'])
        .default('auto'),
    )
    .action(async (options) => (await import('./commands/up.ts')).up(options));
  program
    .command('down')
    .description('unmount and stop the cluster on this machine')
    .option('--data <dir>', 'its data directory (default ./tatami-data)')
    .action(async (options) => (await import('./commands/down.ts')).down(options));

  program.commandsGroup('Several machines, one process each:');
  program
    .command('init')
    .description('begin a cluster: make the key and the first node')
    .requiredOption('--data <dir>', 'data directory of the first node; empty or new')
    .requiredOption('--listen <host:port>', 'address by which the other machines reach it')
    .requiredOption('--key-file <file>', 'where to write the cluster key; copy it to the other machines')
    .option('--id <name>', 'name of the node (default: from the host name)')
    .option('--host <name>', 'failure domain: machine (default: the host name)')
    .option('--rack <name>', 'failure domain: rack', 'rack')
    .option('--zone <name>', 'failure domain: zone', 'zone')
    .option('--copies <n>', 'copies of each block (default 3, or as many as nodes)', count(1, 16))
    .action(async (options) => (await import('./commands/init.ts')).init(options));
  addNodeCommands(program, VERSION);
  withCluster(
    program
      .command('mount')
      .description('mount the cluster')
      .argument('<dir>', 'an empty directory')
      .option('--foreground', 'stay in the foreground')
      .option('--read-only', 'refuse changes')
      .option('--subdir <path>', 'mount only what is below this directory of the filesystem')
      .option('-o, --options <list>', 'as of mount(8): ro,nosuid,nodev,noexec,subdir=/a,cache_memory=512,...')
      .option('--log <file>', 'of the mount in the background; "syslog": to the log of the system')
      .option('--allow-other', 'without root: other users may use it (root lets them anyway)')
      .addOption(new Option('--fs-name <name>', 'what is shown as the source').hideHelp())
      .addOption(new Option('--umount-helper', 'umount(8) shall wait for this process').hideHelp())
      .option('--no-local-reads', "read blocks through the nodes also where their disks are this machine's")
      .option(
        '--share',
        'give other readers what this mount has read, and take theirs: for files that many machines read at once',
      )
      .option(
        '--share-listen <host:port>',
        'the same, and where they may ask this mount (default: all interfaces, any port; nowhere if all nodes are on this machine)',
      )
      .option('--cache-memory <MiB>', 'memory for blocks that were read, at most (default 128)', count(16, 1 << 20))
      .option(
        '--prefetch <MiB>',
        'of files that are read at random so much is fetched ahead into the page cache, within 5 minutes; 0: nothing (default: a quarter of the memory)',
        count(0, 1 << 20),
      )
      .option('--cache-dir <dir>', 'keep blocks of other machines on this disk too, also over restarts of the mount')
      .option('--cache-size <GiB>', 'how much of that disk to use (default 10)', count(1, 1 << 20))
      .option(
        '--attr-timeout-ms <n>',
        'within this time changes of names and attributes by others show; 0: nothing is cached (default 1000)',
        count(0, 3_600_000),
      )
      .option(
        '--metadata-cache <s>',
        'how long names and attributes are cached that nobody changes; 0: no longer than --attr-timeout-ms (default 60)',
        count(0, 3_600),
      )
      .option(
        '--compact-after <s>',
        'put together what was written in small pieces when it was quiet for so long; 0: never (default 10)',
        count(0, 86_400),
      )
      .option('--timeout <s>', TIMEOUT_HELP, seconds)
      .addOption(
        new Option('--binding <name>', 'how to reach the kernel (default: auto)').choices([
          'auto',
          'dev-fuse',
          'fuse-native',
        ]),
      ),
  )
    .addHelpText('after', MOUNT_HELP)
    .action(async (directory, options) => (await import('./commands/mount.ts')).mount(directory, options));
  program
    .command('warmup')
    .description('read all files below a directory of a mount, so that its caches have them when they are needed')
    .argument('<path>', 'a file or directory in a mount')
    .option('--jobs <n>', 'files read at once (default 4)', count(1, 64))
    .option('--json', 'for scripts')
    .addHelpText('after', WARMUP_HELP)
    .action(async (path, options) => (await import('./commands/warmup.ts')).warmup(path, options));
  program
    .command('umount')
    .description('unmount, and wait until all is written; files that lost data are named')
    .argument('<dir>', 'the mount point')
    .option('--force', 'even if files are open: they get errors')
    .action(async (directory, options) => (await import('./commands/umount.ts')).umount(directory, options));

  program
    .command('install-helpers')
    .description('make `mount -t tatamifs`, lines of /etc/fstab and systemd work on this machine; as root')
    .option('--prefix <dir>', 'put the files below this directory instead of /, for packages')
    .option('--no-units', 'not the unit of systemd for nodes')
    .option('--uninstall', 'remove what an earlier call has put there')
    .addHelpText('after', HELPERS_HELP)
    .action(async (options) => (await import('./commands/install-helpers.ts')).installHelpers(options));

  program.commandsGroup('Files without a mount:');
  withCluster(
    program.command('put').description('copy a local file into the cluster').argument('<file>').argument('<path>'),
  ).action(async (file, path, options) => (await import('./commands/files.ts')).put(file, path, options));
  withCluster(
    program
      .command('get')
      .description('copy a file out of the cluster')
      .argument('<path>')
      .argument('<file>', 'local file, or - for standard output'),
  ).action(async (path, file, options) => (await import('./commands/files.ts')).get(path, file, options));
  withCluster(
    program
      .command('clone')
      .description('copy a file or a whole tree within the cluster without moving its bytes')
      .argument('<source>', 'a file, directory, link, ...')
      .argument('<target>', 'the name of the copy; nothing may be there')
      .option('--json', 'for scripts'),
  )
    .addHelpText('after', CLONE_HELP)
    .action(async (source, target, options) => (await import('./commands/clone.ts')).clone(source, target, options));
  withCluster(
    program
      .command('compact')
      .description('put files together that were written in many small pieces, so that they are read faster')
      .argument('<path>', 'a file, or a directory with all that is in it')
      .option('--json', 'for scripts'),
  )
    .addHelpText('after', COMPACT_HELP)
    .action(async (path, options) => (await import('./commands/compact.ts')).compact(path, options));
  withCluster(
    program
      .command('ls')
      .description('list a directory')
      .argument('[path]', 'a directory or file', '/')
      .option('-l, --long', 'with mode, owner, size and time')
      .option('--json', 'for scripts'),
  ).action(async (path, options) => (await import('./commands/files.ts')).ls(path, options));
  withCluster(
    program
      .command('stat')
      .description('attributes of anything, and its pool; for a file, its extents and which nodes hold each block')
      .argument('<path>')
      .option('--json', 'for scripts'),
  ).action(async (path, options) => (await import('./commands/stat.ts')).statFile(path, options));
  withCluster(
    program
      .command('locks')
      .description('who holds locks (fcntl, flock) on a file, or on any: process, and the mount it uses')
      .argument('[path]')
      .option('--json', 'for scripts'),
  ).action(async (path, options) => (await import('./commands/locks.ts')).locks(path, options));

  program.commandsGroup('Looking after it:');
  withCluster(
    program
      .command('status')
      .description('nodes, groups, pools, mounts, health and what to do')
      .option('--json', 'for scripts')
      .option('--watch', 'go on showing it'),
  ).action(async (options) => (await import('./commands/status.ts')).status(options));
  withCluster(
    program
      .command('events')
      .description('what happened: nodes up and down, promotions, appointments, voters, damage found')
      .option('--since <when>', 'from then on: 90s, 10m, 8h, 2d ago, today, yesterday, or "2026-11-25 02:14"', (text) =>
        parseSince(text),
      )
      .option('--follow', 'go on with what happens; without --since only that')
      .option('--json', 'one object a line')
      .option(
        '--exec <command>',
        'follow, and run this by the shell for each event, one at a time; the event is in TATAMI_EVENT, TATAMI_EVENT_NODE, ... and as JSON on standard input',
      )
      .option('--exec-timeout <seconds>', 'a command that takes longer is ended (default 60)', count(1, 86_400)),
  ).action(async (options) => (await import('./commands/events.ts')).events(options));
  program
    .command('doctor')
    .description('what this machine lacks for tatamifs, and how to mend it')
    .option('--json', 'for scripts')
    .action(async (options) => (await import('./commands/doctor.ts')).doctor(options));
  addGroupCommands(program);
  addPoolCommands(program);
  withCluster(
    program
      .command('gc')
      .description('give back the space of data that no file uses any more')
      .option('--dry-run', 'only count')
      .addOption(
        new Option('--every <time>', 'set how often the cluster does it by itself (default 1h; never)')
          .argParser(parseSpan)
          .conflicts('dryRun'),
      )
      .option('--json', 'for scripts'),
  )
    .addHelpText('after', GC_HELP)
    .action(async (options) => (await import('./commands/gc.ts')).gc(options));
  withCluster(
    program
      .command('scrub')
      .description('how the nodes re-read and check what they hold; start or set it')
      .option('--now', 'start one over everything, ahead of the schedule')
      .option('--wait', 'wait until the running ones have ended, and name the files that were damaged')
      .option('--node <id>', 'this node only')
      .option('--pool <name>', 'with --now: blocks of this pool only')
      .option(
        '--every-days <n>',
        'set the schedule: everything once in so many days (default 14); 0: only when asked',
        days,
      )
      .option('--rate-mib <n>', 'set the most that each node reads for it, MiB/s (default 32)', count(1, 1 << 14))
      .option('--json', 'for scripts'),
  )
    .addHelpText('after', SCRUB_HELP)
    .action(async (options) => (await import('./commands/scrub.ts')).scrub(options));
  withCluster(
    program
      .command('repair')
      .description('how far the nodes are with making missing copies; how long they wait for a node that is down')
      .option('--after <time>', 'set how long a node may be down (default 10m; never: it is waited for)', parseSpan)
      .option('--wait', 'wait until all copies are made that can be, with progress')
      .option('--json', 'for scripts'),
  )
    .addHelpText('after', REPAIR_HELP)
    .action(async (options) => (await import('./commands/repair.ts')).repair(options));
  withCluster(
    program
      .command('balance')
      .description('how level the nodes are filled, and how far blocks are moved where nodes have come or gone')
      .option('--watch', 'until nothing is to be moved, with progress')
      .addOption(new Option('--pause', 'make copies only of blocks that have too few; survives restarts'))
      .addOption(new Option('--resume', 'move blocks again').conflicts('pause'))
      .option('--json', 'for scripts'),
  )
    .addHelpText('after', BALANCE_HELP)
    .action(async (options) => (await import('./commands/balance.ts')).balance(options));
  withCluster(
    program
      .command('damage')
      .description('damaged block copies that the nodes have on record, by path, and whether they are mended')
      .option('--json', 'for scripts'),
  ).action(async (options) => (await import('./commands/damage.ts')).damage(options));
  withCluster(
    program
      .command('fsck')
      .description('check that every file has its blocks; name the files that do not')
      .argument('[path]', 'a file or directory; without one everything, and what no file uses', '/')
      .option('--repair', 'have missing copies made and damaged ones mended; deletes nothing')
      .option('--json', 'for scripts'),
  )
    .addHelpText('after', FSCK_HELP)
    .action(async (path, options) => (await import('./commands/fsck.ts')).fsck(path, options));
  withCluster(
    program
      .command('bench')
      .description('measure this machine, a mount and the library against each other')
      .argument(
        '[benchmarks...]',
        'which ones (default: all but peers, which is run alone; described in the repository, bench/README.md)',
      )
      .option('--mount <dir>', 'an existing mount to measure; without it a cluster is started for the purpose')
      .option('--size-mib <n>', 'size of the large file', count(16, 1 << 20))
      .option('--files <n>', 'how many small files (default: 2000)', count(1, 1_000_000))
      .option('--rounds <n>', 'alternate runs of each pair', count(1, 50))
      .option('--entries <n>', 'directories: the largest (default: 100000)', count(1_000, 100_000_000))
      .option('--install', 'peers: install what Debian packages are missing, without starting a service')
      .option('--systems <names>', 'peers: which, with commas between (default: tatamifs,GlusterFS,MooseFS)')
      .option('--results <dir>', 'peers, storm: where report and plot go (default: bench/results of the checkout)')
      .option('--json', 'for scripts'),
  ).action(async (names, options) => (await import('./commands/bench.ts')).bench(names, options));
  return program;
}

endQuietlyWithoutReader();
const helper = helperCall(process.argv);
try {
  if (helper !== undefined)
    process.exitCode = await (await import('./commands/mount-helper.ts'))[helper.name](helper.args);
  else await buildProgram().parseAsync(process.argv);
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  } else {
    printError(error);
    const { code = 'ERR_START', remedy } = error as { code?: string; remedy?: string };
    const message = error instanceof Error ? error.message : String(error);
    await tellParent({ kind: 'failed', code, message, remedy });
    process.exitCode = exitCodeOf(error);
  }
}
