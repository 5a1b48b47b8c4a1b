/**
 * When a node may lose its power without taking along what was acknowledged: what two operating systems hold in memory
 * survives the loss of one of them (DESIGN, section 8, rule 1), and no further one until the loss is made good.
 */
import { FIRST_GROUP_ID } from '../../src/catalog/document.ts';
import type { SimCluster } from './cluster.ts';

export class PowerLedger {
  readonly #sim: SimCluster;
  /** A node lost its power, and may lack what it has acknowledged. */
  #owed = false;

  constructor(sim: SimCluster) {
    this.#sim = sim;
  }

  /** Asked before a node loses its power; if yes, it does. Any node: the newest members are not known for sure. */
  mayLose = (): boolean => {
    this.look();
    if (this.#owed) return false;
    this.#owed = true;
    return true;
  };

  /** Whoever serves has everything that was acknowledged, and so has a secondary that has all that is committed. */
  look(): void {
    if (!this.#owed || this.#sim.nodes().length === 0) return;
    const { primary, secondary } = this.#sim.group();
    const statusOf = (id: string | null) =>
      this.#sim
        .nodes()
        .find((node) => node.id === id)
        ?.meta.member(FIRST_GROUP_ID)
        ?.status();
    const serving = statusOf(primary);
    const other = statusOf(secondary);
    if (serving?.serving !== true || other === undefined || other.epoch !== serving.epoch) return;
    if (other.loggedSeq >= serving.committedSeq) this.#owed = false;
  }
}
