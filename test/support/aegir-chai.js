/**
 * Stands for `aegir/chai`, from which interface-blockstore-tests imports its `expect` (vitest.config.ts has the alias):
 * chai with the two plugins that the suite uses. All of aegir is a tool chain with hundreds of packages.
 */
import { expect, use } from 'chai';
import chaiAsPromised from 'chai-as-promised';
import dirtyChai from 'dirty-chai';

// The plugins come without types.
/* eslint-disable @typescript-eslint/no-unsafe-argument */
use(chaiAsPromised);
use(dirtyChai);

export { expect };
