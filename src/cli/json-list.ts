/** JSON that is written while its list is still growing, so that a list of millions needs no memory. */
import { printed } from './output.ts';

export class JsonList {
  #isEmpty = true;

  /** Begins an object whose first member is the list. */
  constructor(name: string) {
    process.stdout.write(`{\n  ${JSON.stringify(name)}: [`);
  }

  add(item: object): void {
    process.stdout.write(`${this.#isEmpty ? '' : ','}\n    ${printed(item)}`);
    this.#isEmpty = false;
  }

  /** Ends the list and adds the other members. */
  end(others: object): void {
    process.stdout.write(this.#isEmpty ? ']' : '\n  ]');
    for (const [name, value] of Object.entries(others)) {
      process.stdout.write(`,\n  ${JSON.stringify(name)}: ${printed(value)}`);
    }
    process.stdout.write('\n}\n');
  }
}
