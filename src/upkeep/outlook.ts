/**
 * What one more failure would cost: for each node that is up, what would still work if it failed now. Pure. The rules are R4,
 * R5 and R10; what was lost already counts.
 */
import { majorityOf } from '../catalog/paxos.ts';
import { repairProgress, scarcePools } from './repair-progress.ts';
import type { ClusterStatus, GroupSummary } from './status.ts';

/** `none`: nobody notices. `pause`: file operations stand still for some seconds. `outage`: until it is back. */
export type Impact = 'none' | 'pause' | 'outage';

export interface Outlook {
  /** Nodes of which the same holds: the failure of any one of them. */
  readonly nodes: readonly string[];
  readonly impact: Impact;
  /** In words, one statement each; begins in lower case: "if n1 fails now: ...". */
  readonly effects: readonly string[];
  /** What to do so that it would cost less; absent where nothing stops. */
  readonly remedy?: string;
}

type Facts = Pick<ClusterStatus, 'nodes' | 'voters' | 'groups' | 'pools'>;

interface Effect {
  readonly impact: Impact;
  readonly text: string;
  readonly remedy?: string;
}

const ORDER: readonly Impact[] = ['outage', 'pause', 'none'];
/** Blocks are on disk on this many nodes when a write is answered, where the pool keeps as many. */
const SYNCHRONOUS_COPIES = 2;

/** Worst first. Empty where nothing is up. */
export function outlookOf(facts: Facts): Outlook[] {
  const found = new Map<string, { nodes: string[]; effects: readonly Effect[] }>();
  for (const { id, state } of facts.nodes) {
    if (state !== 'up') continue;
    const effects = effectsOf(facts, id);
    const key = effects.map(({ text }) => text).join('\n');
    const same = found.get(key);
    if (same === undefined) found.set(key, { nodes: [id], effects });
    else same.nodes.push(id);
  }
  const all = [...found.values()].map(({ nodes, effects }): Outlook => {
    const impact = ORDER.find((each) => effects.some((effect) => effect.impact === each)) ?? 'none';
    const remedy = effects.find((effect) => effect.impact === impact && effect.remedy !== undefined)?.remedy;
    return { nodes, impact, effects: effects.map(({ text }) => text), ...(remedy === undefined ? {} : { remedy }) };
  });
  return all.sort((a, b) => ORDER.indexOf(a.impact) - ORDER.indexOf(b.impact));
}

/** "if n2 fails now: ..." */
export function outlookInWords({ nodes, effects }: Outlook): string {
  const who = nodes.length === 1 ? (nodes[0] ?? '') : `any one of ${nodes.join(' ')}`;
  return `if ${who} fails now: ${effects.join('; ')}`;
}

function effectsOf(facts: Facts, id: string): Effect[] {
  const groups = facts.groups.flatMap((group) => groupEffect(facts, group, id) ?? []);
  const effects = [...groups, ...dataEffects(facts, id)];
  const votes = votersAfter(facts, id);
  if (facts.voters.some((voter) => voter.id === id && voter.state === 'up') && votes.left < votes.needed) {
    effects.push({
      impact: effects.some(({ impact }) => impact === 'outage') ? 'outage' : 'pause',
      text: 'the catalog cannot change, so no further failure is made up for',
      remedy: votersRemedy(facts),
    });
  }
  return effects.length > 0 ? effects : [{ impact: 'none', text: 'everything goes on' }];
}

function votersAfter(facts: Facts, id: string): { readonly left: number; readonly needed: number } {
  const left = facts.voters.filter((voter) => voter.state === 'up' && voter.id !== id).length;
  return { left, needed: majorityOf(facts.voters.length) };
}

function votersRemedy(facts: Facts): string {
  const away = facts.voters.filter(({ state }) => state !== 'up').map((voter) => voter.id);
  if (away.length > 0) return `Bring ${away.join(', ')} back.`;
  return facts.nodes.filter(({ kind }) => kind !== 'witness').length === 2
    ? 'Run `tatami witness` on any third machine (it holds no data), or add a third node.'
    : 'Add nodes: from three on, any one may fail.';
}

function groupEffect(facts: Facts, group: GroupSummary, id: string): Effect | undefined {
  const { primary, secondary } = group;
  if (id !== primary && id !== secondary) return undefined;
  if (!group.serving) return { impact: 'outage', text: `group ${group.id}, which does not serve now, needs it` };
  const { left, needed } = votersAfter(facts, id);
  const canChange = left >= needed;
  const others = upWithData(facts).filter((node) => node !== primary && node !== secondary);
  if (id === primary && secondary === null) {
    return {
      impact: 'outage',
      text: `files cannot be used until it is back: the metadata of group ${group.id} is on it alone`,
      remedy: 'Start another node: it becomes the secondary by itself.',
    };
  }
  if (!canChange) {
    const what = id === primary ? 'nobody can take over' : 'it cannot be left out';
    return {
      impact: 'outage',
      text: `files cannot be used until it is back: without its vote ${what}`,
      remedy: votersRemedy(facts),
    };
  }
  if (group.minReplicas > 1 && others.length === 0) {
    return {
      impact: 'outage',
      text: `files cannot be changed until a node is back: no other one can hold the second copy of the metadata`,
      remedy: 'Bring a node that is down back, or add one.',
    };
  }
  const next =
    others.length === 0 ? 'it serves alone' : `${others.length === 1 ? others[0] : 'another node'} becomes secondary`;
  return id === primary
    ? { impact: 'pause', text: `file operations stand still for some 3 s, then ${secondary} serves and ${next}` }
    : {
        impact: 'pause',
        text: `changes stand still for some 2 s, then ${others.length === 0 ? `${primary} serves alone` : next}`,
      };
}

function upWithData(facts: Facts): string[] {
  return facts.nodes.filter((node) => node.kind !== 'witness' && node.state === 'up').map((node) => node.id);
}

function dataEffects(facts: Facts, id: string): Effect[] {
  const withData = facts.nodes.filter((node) => node.kind !== 'witness');
  if (!withData.some((node) => node.id === id)) return [];
  // Of a node that is out all blocks have their copies elsewhere, once repair is done.
  const isRepaired = repairProgress(facts).done;
  const gone = withData.filter((node) => node.state !== 'up' && !(isRepaired && node.out === true)).length + 1;
  const left = upWithData(facts).length - 1;
  const effects: Effect[] = [];
  const bare = facts.pools.filter((pool) => gone >= pool.copies || left === 0);
  if (bare.length > 0) {
    effects.push({
      impact: 'outage',
      text: `blocks${ofPools(facts, bare)} that only ${gone === 1 ? 'it has' : 'it and the nodes that are down have'} cannot be read`,
      remedy: gone === 1 ? 'Keep two copies or more of data that matters.' : 'Bring the nodes that are down back.',
    });
  }
  const scarce = new Set(scarcePools(facts).map(({ name }) => name));
  const thin = facts.pools.filter((pool) => !bare.includes(pool) && scarce.has(pool.name) && gone + 1 >= pool.copies);
  if (thin.length > 0) {
    effects.push({
      impact: 'outage',
      text: `blocks${ofPools(facts, thin)} of which copies are still to be made may be on ${gone === 1 ? 'it' : 'it and the nodes that are down'} alone, and cannot be read`,
      remedy: 'Wait until the copies are made: `tatami repair` shows how far that is.',
    });
  }
  const neededBy = ({ copies }: Facts['pools'][number]): number =>
    Math.min(SYNCHRONOUS_COPIES, copies, withData.length);
  const needed = Math.max(...facts.pools.map(neededBy));
  const stuck = facts.pools.filter((pool) => left < neededBy(pool));
  if (left > 0 && stuck.length > 0) {
    effects.push({
      impact: 'outage',
      text: `file data${ofPools(facts, stuck)} cannot be written: a block goes to ${needed} nodes`,
      remedy: 'Bring the nodes that are down back, or add one.',
    });
  }
  return effects;
}

/** Empty if it is about all of them. */
function ofPools(facts: Facts, pools: Facts['pools']): string {
  return pools.length === facts.pools.length ? '' : ` of pool ${pools.map(({ name }) => name).join(', ')}`;
}
