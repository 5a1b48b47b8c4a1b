/** `tatami node`, its subcommands, and `tatami witness`: who is in the cluster. */
import { Option } from 'commander';
import type { Command } from 'commander';
import { count, withCluster, withDomains } from './program-options.ts';

const TOKEN_HELP = `
A join token is as secret as the cluster key: whoever has it is in. On a command line it can be seen by the users of the
machine for a moment, and it stays in the shell's history. So pipe it, or put it into TATAMI_TOKEN:
  tatami node token --connect ADDRESS --key-file FILE | ssh NEW-MACHINE tatami node join --token - --data DIR --listen HOST:PORT
The key is then kept in DIR/cluster.key; later \`tatami node --data DIR\` is enough to start the node.`;

/** `tatami group`. */
export function addGroupCommands(program: Command): void {
  const group = program.command('group').description('groups of metadata: what only an operator can decide');
  withCluster(
    group
      .command('force')
      .description('go on with an older copy of a group whose primary and secondary are both lost for good')
      .argument('<group>', 'name of the group, as in `tatami status`')
      .requiredOption('--from <node>', 'whose copy to go on with')
      .option('--yes', 'do not ask; needed where there is no terminal')
      .option('--json', 'for scripts'),
  ).action(async (name, options) => (await import('./commands/group-force.ts')).groupForce(name, options));
}

/** What a node takes however it is started. */
function withNodeOptions(command: Command): Command {
  return withDomains(command)
    .option('--capacity-gib <n>', 'share of data to take, in GiB (default: the size of the disk)', count(1, 1 << 24))
    .option(
      '--reserve-mib <n>',
      'kept free on the disk (default: the larger of 256 MiB and 2%, at most a tenth)',
      count(1, 1 << 20),
    )
    .option('--discovery <host:port>', 'answer UDP discovery at this address')
    .addOption(new Option('--record <file>').hideHelp());
}

function withSecret(command: Command): Command {
  return command
    .option('--key-file <file>', 'the cluster key, or')
    .option('--token <token>', 'a join token: - reads it from standard input; without either, TATAMI_TOKEN')
    .addHelpText('after', TOKEN_HELP);
}

export function addNodeCommands(program: Command, version: string): void {
  const node = withNodeOptions(
    program
      .command('node')
      .description('run a node; with a subcommand: bring machines into the cluster')
      .enablePositionalOptions()
      .option('--data <dir>', 'its data directory; new with --join')
      .option('--key-file <file>', 'the cluster key (default: cluster.key in the data directory)')
      .option('--listen <host:port>', 'own address (default: the one it had before)')
      .option('--join <addresses>', 'the same as `tatami node join ADDRESSES`')
      .option('--id <name>', 'name of a new node (default: from the host name)'),
  ).action(async (options) => (await import('./commands/node.ts')).node(options, version));

  withSecret(
    withNodeOptions(
      node
        .command('join')
        .description('add this machine to a running cluster, and run its node')
        .argument('[addresses]', 'of some nodes of the cluster, host:port,host:port; a token has them')
        .requiredOption('--data <dir>', 'data directory of the node; empty or new')
        .option('--listen <host:port>', 'address by which the other machines reach it')
        .option('--id <name>', 'name of the node (default: from the host name)'),
    ),
  ).action(async (addresses, options) => (await import('./commands/node.ts')).join(addresses, options, version));

  withCluster(
    node.command('token').description('print a join token: key and addresses in one word, for `tatami node join`'),
  )
    .addHelpText('after', TOKEN_HELP)
    .action(async (options) => (await import('./commands/node-token.ts')).nodeToken(options));

  withCluster(
    node
      .command('drain')
      .description('empty a node before it is taken out: its blocks are copied to the others, they take over its roles')
      .argument('<id>', 'name of the node')
      .option('--wait', 'show how far it is until it is drained (the default); Ctrl-C leaves it going')
      .addOption(new Option('--detach', 'begin, and do not wait').conflicts('wait'))
      .option('--undo', 'take it back: the node takes data again')
      .option('--json', 'for scripts'),
  ).action(async (id, options) => (await import('./commands/node-drain.ts')).nodeDrain(id, options));

  withCluster(
    node
      .command('remove')
      .description('take a drained, or dead, node out of the cluster for good')
      .argument('<id>', 'name of the node')
      .option('--force', 'although the node, which is down, alone has some blocks: they are lost')
      .option('--json', 'for scripts'),
  ).action(async (id, options) => (await import('./commands/node-remove.ts')).nodeRemove(id, options));

  withSecret(
    withNodeOptions(
      node
        .command('replace')
        .description('put this machine in the place of a node that is lost for good, and run its node')
        .argument('<old>', 'name of the lost node')
        .argument('[addresses]', 'of some nodes of the cluster, host:port,host:port; a token has them')
        .requiredOption('--data <dir>', 'data directory of the new node; empty or new')
        .option('--listen <host:port>', 'address by which the other machines reach it (may be that of the lost one)')
        .option('--id <name>', 'name of the new node (default: the old one with a number behind it)')
        .option('--force', 'although the lost node alone had some blocks: they are lost'),
    ),
  ).action(async (old, addresses, options) =>
    (await import('./commands/node-replace.ts')).nodeReplace(old, addresses, options, version),
  );

  withDomains(
    program
      .command('witness')
      .description('run a witness: it votes on who serves what, and holds no data (for clusters of two nodes)')
      .requiredOption('--data <dir>', 'its data directory; new with --join')
      .requiredOption('--key-file <file>', 'the cluster key')
      .option('--listen <host:port>', 'own address (default: the one it had before)')
      .option('--join <addresses>', 'enter the cluster through these nodes; once')
      .option('--id <name>', 'name of a new witness (default: from the host name)'),
  ).action(async (options) => (await import('./commands/node.ts')).witness(options, version));
}
