/** What would be lost with a node, for people. Pure. */
import type { Loss, ProgramsLoss } from '../upkeep/removal.ts';
import { shownName } from './file-names.ts';
import { bytes } from './output.ts';

/** What must not go unless that is wanted; empty: nothing. */
export function lossInWords(id: string, loss: Loss): string {
  const ofPrograms = loss.ofPrograms.filter(isLoss);
  const statements = [...ofFiles(loss), ...ofPrograms.map((one) => poolInWords(id, one))];
  if (statements.length === 0) return '';
  const { silent } = loss;
  const others = silent.length === 0 ? '' : `; ${silent.join(', ')} could not be asked, and may have some of them`;
  const files = loss.paths.map(shownName).join(', ');
  const names = files === '' ? '' : `. Files: ${files}${loss.lostFileCount > loss.paths.length ? ', ...' : ''}`;
  return `${statements.join('; ')}${others}${names}`;
}

/** What nobody can tell, and what no promise would be broken by; empty: nothing. */
export function notCountedInWords(id: string, { ofPrograms }: Loss): string {
  const pools = ofPrograms.filter(({ isCounted, keepsOne }) => !isCounted && !keepsOne).map(({ pool }) => pool);
  if (pools.length === 0) return '';
  return (
    `blocks that programs put into ${pools.join(', ')} stand on no list: one of which ${id} had the only copy, as where ` +
    'copies were still to be made, is not counted'
  );
}

function isLoss({ lostCount, isCounted, keepsOne }: ProgramsLoss): boolean {
  return lostCount > 0 || (!isCounted && keepsOne);
}

function ofFiles({ lostCount, blockCount, lostBytes, lostFileCount, ofPrograms }: Loss): string[] {
  const programs = (pick: (one: ProgramsLoss) => number): number => ofPrograms.reduce((sum, one) => sum + pick(one), 0);
  const count = lostCount - programs((one) => one.lostCount);
  const size = bytes(lostBytes - programs((one) => one.lostBytes));
  if (count === 0) return [];
  return [`${count} of ${blockCount} blocks (${size}) in ${lostFileCount} files are on no other node that is up`];
}

function poolInWords(id: string, { pool, lostCount, isCounted, keepsOne }: ProgramsLoss): string {
  if (!isCounted && keepsOne) {
    return `pool ${pool} keeps one copy of each block: what programs have put into it on ${id} is nowhere else, and how much that is only ${id} knows`;
  }
  return `${lostCount} blocks of programs, in pool ${pool}, are on no other node that is up`;
}
