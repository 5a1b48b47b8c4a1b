/** `tatami pool`: how many copies of what is kept where, and which directories use which pool. */
import { Option } from 'commander';
import type { Command } from 'commander';
import { COPIES_MAX_COUNT, PG_MAX_COUNT } from '../limits.ts';
import { blockSize, count, powerOfTwo, withCluster } from './program-options.ts';

const POOL_HELP = `
A pool says how many copies are kept of a block, how long blocks are, and what the copies are spread over. A directory is
assigned to a pool; what is made in it from then on goes there, and so on further down. Files that exist keep their pool.
  tatami pool create scratch --copies 1 --block-size 1M
  tatami pool assign /build scratch
  tatami pool set scratch --copies 2`;

const SET_HELP = `
Copies, placement groups and domain change for what is stored already, while it is used: nodes copy what is missing and give
up what is too much by themselves (\`tatami repair --wait\` waits for it). A new block size is for what is written from then on.
There can be more placement groups, never fewer.`;

const ASSIGN_HELP = `
The path is one of the cluster, as \`tatami ls\` shows it. On a mount the same is done, for one directory, by
  setfattr -n tatami.pool -v POOL DIRECTORY         (getfattr -n tatami.pool DIRECTORY-OR-FILE shows it)
Files that exist, and what is moved in, keep their pool: copy them to bring them over.`;

function withSettings(command: Command): Command {
  return command
    .option('--copies <n>', 'copies of each block', count(1, COPIES_MAX_COUNT))
    .option('--block-size <size>', 'files are cut at multiples of it: 64K to 4M, a power of two', blockSize)
    .option('--pgs <n>', 'placement groups, a power of two', powerOfTwo(1, PG_MAX_COUNT))
    .addOption(
      new Option('--domain <kind>', 'no two copies in the same one, while there are enough of them').choices([
        'node',
        'host',
        'rack',
        'zone',
      ]),
    );
}

export function addPoolCommands(program: Command): void {
  const pool = program
    .command('pool')
    .description('pools: how many copies of what are kept where')
    .addHelpText('after', POOL_HELP);
  withCluster(
    withSettings(
      pool
        .command('create')
        .description(
          'make a pool; copies, block size and domain are those of the pool that the cluster began with, unless given',
        )
        .argument('<name>', '1 to 64 of a-z, 0-9 and -')
        .option('--library', 'for programs (ReplicatedStore), not for files'),
    ).option('--json', 'for scripts'),
  ).action(async (name, options) => (await import('./commands/pool.ts')).poolCreate(name, options));
  withCluster(
    withSettings(
      pool.command('set').description('change a pool while it is in use').argument('<name>', 'name of the pool'),
    )
      .addOption(new Option('--library').hideHelp())
      .option('--json', 'for scripts'),
  )
    .addHelpText('after', SET_HELP)
    .action(async (name, options) => (await import('./commands/pool.ts')).poolSet(name, options));
  withCluster(
    pool.command('ls').description('the pools, and which is the default').option('--json', 'for scripts'),
  ).action(async (options) => (await import('./commands/pool.ts')).poolList(options));
  withCluster(
    pool
      .command('assign')
      .description('assign a directory, and those below it that follow it, to a pool')
      .argument('<path>', 'a directory, by its path in the cluster (/images, not /mnt/tatami/images)')
      .argument('<pool>', 'name of the pool')
      .option('--all', 'also those below that are assigned to other pools')
      .option('--json', 'for scripts'),
  )
    .addHelpText('after', ASSIGN_HELP)
    .action(async (path, name, options) => (await import('./commands/pool.ts')).poolAssign(path, name, options));
}
