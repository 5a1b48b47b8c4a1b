/**
 * What the state of the voters means, in words: whether the catalog can change now, and what a further failure would cost.
 * Pure.
 */
import { majorityOf } from '../catalog/paxos.ts';
import type { Finding } from './health.ts';
import type { VoterStatus } from './status.ts';

/** How many more voters may fail before the catalog cannot change any more; below zero: it cannot now. */
export function sparesOf(voters: readonly VoterStatus[]): number {
  return voters.filter((voter) => voter.state === 'up').length - majorityOf(voters.length);
}

/** One line: who votes, and what may fail. */
export function votersInWords(voters: readonly VoterStatus[]): string {
  const names = voters.map(({ id, state }) => (state === 'up' ? id : `${id} (${state})`)).join(' ');
  const spares = sparesOf(voters);
  if (spares < 0) return `${names}: the catalog cannot change now`;
  if (spares === 0) return `${names}: none of those that are up may fail`;
  return `${names}: ${spares === 1 ? 'any one' : `any ${spares}`} may fail`;
}

/** `dataNodeCount` as the catalog has it. */
export function voterTrouble(voters: readonly VoterStatus[], dataNodeCount: number): Finding[] {
  return [...lostVotes(voters), ...quorumTrouble(voters), ...singleVoter(voters, dataNodeCount)];
}

/** R11. */
function lostVotes(voters: readonly VoterStatus[]): Finding[] {
  return voters
    .filter((voter) => voter.state === 'lost')
    .map(({ id, reason = '' }) => ({
      severity: 'degraded',
      text: `Voter ${id} never votes on the catalog again: ${reason}.`,
      remedy:
        'If the others can agree, another node takes its vote by itself as soon as there is one; `tatami witness` on any ' +
        'machine is enough. Its data is not affected.',
    }));
}

function quorumTrouble(voters: readonly VoterStatus[]): Finding[] {
  const missing = voters.filter((voter) => voter.state !== 'up').map((voter) => voter.id);
  if (missing.length === 0) return [];
  const spares = sparesOf(voters);
  const many = missing.length === 1 ? `voter ${missing[0]}` : `voters ${missing.join(', ')}`;
  if (spares < 0) {
    return [
      {
        severity: 'degraded',
        text:
          `The catalog cannot change without ${many}: no node can join, a secondary that fails cannot be replaced, and ` +
          'writes may stand still until it can.',
        remedy: `Bring ${-spares} of them back: ${majorityOf(voters.length)} of ${voters.length} voters must agree.`,
      },
    ];
  }
  if (spares > 0) return [];
  return [
    {
      severity: 'degraded',
      text: `Without ${many}, the loss of one more voter would stop all changes of the catalog: joins and fail-overs.`,
      remedy: 'Bring it back; a voter that stays away for five minutes is replaced by another node if there is one.',
    },
  ];
}

/** R10. */
function singleVoter(voters: readonly VoterStatus[], dataNodeCount: number): Finding[] {
  const [only] = voters;
  if (voters.length !== 1 || only === undefined) return [];
  if (dataNodeCount === 1) {
    return [
      {
        severity: 'note',
        text: `One node: nothing is replicated, and ${only.id} alone votes on the catalog.`,
        remedy: 'Add nodes with `tatami node join`; with three, any one may fail.',
      },
    ];
  }
  return [
    {
      severity: 'note',
      text: `Node ${only.id} alone votes on the catalog: while it is down, no node can join and nothing can take over.`,
      remedy:
        dataNodeCount === 2
          ? 'Two nodes cannot tell a dead node from a broken cable. Add a third node, or `tatami witness` on any third machine (it holds no data).'
          : 'More voters are chosen by themselves once three nodes are up.',
    },
  ];
}
