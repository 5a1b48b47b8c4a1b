/** What is kept in bench/results: one Markdown file with the tables and what a reader must know, one plot. */
import type { PeerKind } from './types.ts';
import { OURS, syncs } from './lines.ts';
import type { Summary } from './lines.ts';
import { costTable, figureText, markdown, misses, ratioTable } from './table.ts';

export interface About {
  readonly date: string;
  readonly machine: string;
  readonly commit: string;
  readonly rounds: number;
  readonly sizeMib: number;
  readonly smallFileCount: number;
  /** In the same order as the systems. */
  readonly versions: readonly string[];
}

/** Notes that belong to the figures wherever they are shown. */
export function notesOf({ lines, syncedShare, stolen, rest }: Summary): string[] {
  const shares = Object.entries(syncedShare).map(([name, share]) => {
    if (share === undefined) return `${name} unknown`;
    return `${name} ${figureText(share)}${syncs(share) ? '' : ' (does not sync)'}`;
  });
  return [
    `Bytes that the disk was told to write until fsync returned, over bytes written, of 2 for two synced copies: ${shares.join('; ')}. A system that does not sync is no yardstick of writing.`,
    ...misses(lines).map((miss) => `${OURS} misses its goal, limited by: ${miss}.`),
    `During a step at most ${(stolen * 100).toFixed(0)}% of the processors were taken by the host, and ${(rest * 100).toFixed(0)}% by the kernel for nobody in particular and by other programs.`,
  ];
}

export function report(
  all: readonly Pick<PeerKind, 'name' | 'layout'>[],
  summary: Summary,
  about: About,
  plotName: string,
): string {
  const set = all.map(({ name, layout }, index) => `- **${name}** (${about.versions[index] ?? ''}): ${layout}.`);
  return `# Against peers, ${about.date}

${about.machine}; commit ${about.commit}; ${about.rounds} rounds, medians (lowest-highest); large file ${about.sizeMib} MiB, ${about.smallFileCount} files of
4 KiB. Made by \`tatami bench peers\`; what is compared how stands in bench/README.md.

${set.join('\n')}

![${plotName}](${plotName})

${markdown(ratioTable(summary.lines))}

${notesOf(summary)
  .map((note) => `- ${note}`)
  .join('\n')}

## Where the processor time goes

Of the process that serves the mount, of all server processes together, and of the program that reads and writes, each with the part that the kernel
spends on their behalf. \`rest\`: the kernel for nobody in particular, and other programs on the machine. \`busy\` is of all processors.

${markdown(costTable(summary.lines))}
`;
}
