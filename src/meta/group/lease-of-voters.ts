/** R5: a primary without a secondary asks the voters, a beacon's time apart, whether it still is one. */
import type { CatalogService } from '../../catalog/types.ts';
import type { Logger } from '../../log.ts';
import { LEASE_MS } from './lease.ts';
import { BEACON_INTERVAL_MS } from './primary.ts';
import type { Primary } from './primary.ts';

export class LeaseOfVoters {
  readonly #catalog: CatalogService;
  readonly #group: string;
  readonly #log: Logger;
  #asking = false;
  #nextMs = -Infinity;

  constructor(catalog: CatalogService, group: string, log: Logger) {
    this.#catalog = catalog;
    this.#group = group;
    this.#log = log;
  }

  askIfDue(primary: Primary, nowMs: number): void {
    if (!primary.servesAlone || this.#asking || nowMs < this.#nextMs) return;
    this.#asking = true;
    this.#nextMs = nowMs + BEACON_INTERVAL_MS;
    this.#catalog
      .confirm(LEASE_MS)
      .then((catalog) => {
        const epoch = catalog.groups.find((group) => group.id === this.#group)?.epoch;
        if (epoch !== undefined) primary.votersConfirmed(epoch, nowMs);
      })
      .catch((error: unknown) => this.#log.debug({ error: String(error) }, 'the voters did not confirm'))
      .finally(() => (this.#asking = false));
  }
}
