// @ts-check
/**
 * One writer of scripts/chaos.js: chaos-writer mount DIRECTORY | library DATA. Writes numbered files, one after the other,
 * each made exclusively, so that a change applied twice would show as EEXIST. Tells the parent of each that was
 * acknowledged: {name, digest, startedMs, endedMs}, by the clock of the system.
 */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import process from 'node:process';
import { setImmediate } from 'node:timers/promises';

// The built one: this is what users run.
const built = new URL('../dist/src/index.js', import.meta.url).href;
/** @type {unknown} */
const library = await import(built);
const { connect } = /** @type {typeof import('../src/index.ts')} */ (library);

const [kind = '', where = ''] = process.argv.slice(2);
let stop = false;
process.on('message', () => (stop = true));
const fs = kind === 'library' ? await connect({ data: where, label: 'chaos' }) : undefined;

/** @param {string} name @param {Buffer} data */
async function write(name, data) {
  if (fs !== undefined) return fs.writeFile(`/${name}`, data, { flag: 'wx' });
  const fd = openSync(`${where}/${name}`, 'wx');
  try {
    writeSync(fd, data);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

for (let count = 0; !stop; count++) {
  // Every tenth has blocks of its own; the others are small enough to lie in the metadata.
  const data = randomBytes(count % 10 === 9 ? 300_000 : 1 + (count % 5_000));
  const name = `${kind}-${count}`;
  const startedMs = Date.now();
  try {
    await write(name, data);
  } catch (error) {
    process.send?.({ failed: `${name}: ${String(error)}` });
    break;
  }
  const digest = createHash('sha256').update(data).digest('hex');
  process.send?.({ name, digest, startedMs, endedMs: Date.now() });
  // Room for signals and messages, as the mount's calls are synchronous.
  await setImmediate();
}
await fs?.close();
process.disconnect?.();
