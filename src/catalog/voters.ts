/**
 * Which nodes vote on the catalog: a pure planner that says the next single change, if one is due.
 *
 * How many. With one or two nodes one voter (R10: two that must both be up are worse than one). From three nodes on three:
 * any one may fail. Five from five nodes on five machines on: any two may fail, and no machine has two votes; on fewer
 * machines a fifth vote would add no machine that may fail. More than five would only make each change wait for more disks.
 *
 * Changes go one voter at a time, so even numbers come about in passing. They are made as short as can be: the set grows only
 * when enough nodes are up to reach the next odd number, and a voter that goes is replaced by adding first and removing
 * after, so that there are never fewer living voters than before. A node that is being drained counts as one that has gone.
 */
import type { NodeId } from '../ids.ts';
import { majorityOf } from './paxos.ts';
import type { Catalog, CatalogNode } from './types.ts';

export interface VoterView {
  readonly up: boolean;
  /** False: it has lost its votes (R11) and never votes again. */
  readonly fit: boolean;
  /** Not up for so long that it is not waited for any more. */
  readonly gone: boolean;
}

/** The voters of a new cluster: spread over failure domains, earlier nodes first. */
export function firstVoters(nodes: readonly CatalogNode[]): NodeId[] {
  const wanted = wantedVoterCount(nodes);
  const chosen: CatalogNode[] = [];
  while (chosen.length < wanted) {
    const best = bestAddition(
      chosen,
      nodes.filter((node) => !chosen.includes(node)),
    );
    if (best === undefined) break;
    chosen.push(best);
  }
  return nodes.filter((node) => chosen.includes(node)).map((node) => node.id);
}

export function wantedVoterCount(nodes: readonly CatalogNode[]): 1 | 3 | 5 {
  if (nodes.length < 3) return 1;
  const hosts = new Set(nodes.map((node) => hostKey(node)));
  return nodes.length >= 5 && hosts.size >= 5 ? 5 : 3;
}

/** The next set of voters, which differs by one, or undefined when there is nothing to do or nothing that is safe now. */
export function nextVoters(catalog: Catalog, viewOf: (node: NodeId) => VoterView): readonly NodeId[] | undefined {
  const nodes = new Map(catalog.nodes.map((node) => [node.id, node]));
  const voters = catalog.voters.flatMap((id) => nodes.get(id) ?? []);
  const staying = catalog.nodes.filter((node) => node.draining !== true);
  const wanted = wantedVoterCount(staying);
  const alive = (node: CatalogNode): boolean => viewOf(node.id).up && viewOf(node.id).fit && !viewOf(node.id).gone;
  const candidates = staying.filter((node) => !voters.includes(node) && alive(node));
  const bad = voters.filter((node) => !viewOf(node.id).fit || viewOf(node.id).gone || node.draining === true);

  const next = wish(voters, candidates, bad, wanted);
  if (next === undefined) return undefined;
  // What is left must be able to decide, else the change would be the last one.
  if (next.filter(alive).length < majorityOf(next.length)) return undefined;
  return next.map((node) => node.id);
}

function wish(
  voters: readonly CatalogNode[],
  candidates: readonly CatalogNode[],
  bad: readonly CatalogNode[],
  wanted: number,
): readonly CatalogNode[] | undefined {
  const add = (): CatalogNode[] | undefined => {
    const best = bestAddition(voters, candidates);
    return best && [...voters, best];
  };
  const remove = (): CatalogNode[] => {
    const worst = worstOf(voters, bad);
    return voters.filter((node) => node !== worst);
  };
  if (voters.length > wanted) return remove();
  if (voters.length % 2 === 0) return add() ?? remove();
  if (voters.length < wanted && candidates.length >= 2) return add();
  if (bad.length > 0) return add();
  return improvesSpread(voters, candidates) ? add() : undefined;
}

/** Whether exchanging one voter for a candidate would spread them over more failure domains. */
function improvesSpread(voters: readonly CatalogNode[], candidates: readonly CatalogNode[]): boolean {
  const best = bestAddition(voters, candidates);
  if (best === undefined) return false;
  const grown = [...voters, best];
  const worst = worstOf(grown, []);
  return isLess(crowding(grown.filter((node) => node !== worst)), crowding(voters));
}

/** The candidate that leaves the voters least crowded; of equals the first. */
function bestAddition(voters: readonly CatalogNode[], candidates: readonly CatalogNode[]): CatalogNode | undefined {
  let best: { node: CatalogNode; score: readonly number[] } | undefined;
  for (const node of candidates) {
    const score = crowding([...voters, node]);
    if (best === undefined || isLess(score, best.score)) best = { node, score };
  }
  return best?.node;
}

/** Whom to let go: a bad one if there is one, else whose going leaves the others least crowded; of equals the last. */
function worstOf(voters: readonly CatalogNode[], bad: readonly CatalogNode[]): CatalogNode | undefined {
  let worst: { node: CatalogNode; score: readonly number[] } | undefined;
  for (const node of bad.length > 0 ? bad : voters) {
    const score = crowding(voters.filter((other) => other !== node));
    if (worst === undefined || !isLess(worst.score, score)) worst = { node, score };
  }
  return worst?.node;
}

/** Pairs that share a zone, a rack, a host: what one failure would take together, the largest domain first. */
function crowding(nodes: readonly CatalogNode[]): readonly number[] {
  const keys = [(node: CatalogNode) => node.zone, rackKey, hostKey];
  return keys.map((key) => {
    const counts = new Map<string, number>();
    for (const node of nodes) counts.set(key(node), (counts.get(key(node)) ?? 0) + 1);
    return [...counts.values()].reduce((sum, count) => sum + count * count, 0);
  });
}

function rackKey(node: CatalogNode): string {
  return JSON.stringify([node.zone, node.rack]);
}

function hostKey(node: CatalogNode): string {
  return JSON.stringify([node.zone, node.rack, node.host]);
}

function isLess(a: readonly number[], b: readonly number[]): boolean {
  const at = a.findIndex((value, index) => value !== b[index]);
  return at >= 0 && (a[at] ?? 0) < (b[at] ?? 0);
}
