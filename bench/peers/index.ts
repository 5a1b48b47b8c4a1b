/**
 * `tatami bench peers`: tatamifs against GlusterFS and MooseFS on this machine, equal copies, in alternate runs.
 *
 * Not among the others of `tatami bench`: it needs their packages, starts and stops everything itself, and has a table of its
 * own with more than one yardstick.
 */
export { allSystems, compare } from './compare.ts';
export type { CompareOptions, Round } from './compare.ts';
export { OURS, summarize } from './lines.ts';
export type { Line, Summary } from './lines.ts';
export { ensurePackages } from './packages.ts';
export { plot } from './plot.ts';
export { notesOf, report } from './report.ts';
export type { About } from './report.ts';
export { costTable, ratioTable } from './table.ts';
export type { PeerKind } from './types.ts';
