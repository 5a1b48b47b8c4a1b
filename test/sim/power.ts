/**
 * Which nodes may lose their power without taking along what was acknowledged: what two operating systems hold in
 * memory survives the loss of one of them (DESIGN, section 8, rule 1), and no more until the loss is made good.
 */
import { FIRST_GROUP_ID } from '../../src/catalog/document.ts';
import type { SimCluster } from './cluster.ts';

export class PowerLedger {
  readonly #sim: SimCluster;
  /** Nodes that may lack what they have acknowledged. */
  readonly #lost = new Set<string>();

  constructor(sim: SimCluster) {
    this.#sim = sim;
  }

  /** Asked before a node loses its power; if yes, it does. */
  mayLose = (id: string): boolean => {
    this.look();
    if (this.#sim.nodes().length === 0) return false;
    const { primary, secondary, lastActivated } = this.#sim.group();
    const members = new Set([primary, ...(secondary === null ? [] : [secondary]), ...lastActivated.members]);
    // Any of them may be the only one with something acknowledged; after this loss the others must have all of it.
    const others = [...members].filter((member) => member !== id && !this.#lost.has(member));
    const allowed = !members.has(id as never) || (this.#lost.size === 0 && others.length > 0 && secondary !== null);
    if (allowed && members.has(id as never)) this.#lost.add(id);
    return allowed;
  };

  /** Whoever serves has everything, and so has a secondary that has all that is committed. */
  look(): void {
    if (this.#lost.size === 0 || this.#sim.nodes().length === 0) return;
    const { primary, secondary } = this.#sim.group();
    const statusOf = (id: string | null) =>
      this.#sim.nodes().find((node) => node.id === id)?.meta.member(FIRST_GROUP_ID)?.status();
    const serving = statusOf(primary);
    const other = statusOf(secondary);
    if (serving?.serving !== true || other === undefined || other.epoch !== serving.epoch) return;
    if (other.loggedSeq >= serving.committedSeq) this.#lost.clear();
  }
}
