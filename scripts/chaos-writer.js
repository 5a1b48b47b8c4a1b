// @ts-check
/**
 * One program that scripts/chaos.js and calm.js run: chaos-writer KIND WHERE.
 *
 * `mount DIRECTORY`, `library DATA`: numbered files, one after the other, each made exclusively, so that a change applied
 * twice would show as EEXIST. Tells the parent of each that was acknowledged: {name, digest, startedMs, endedMs}, by the
 * clock of the system.
 * `stream DIRECTORY`, `blocks DATA`: files of many blocks, written, read back and compared, again and again.
 * `metadata DATA`: makes, looks at, renames and removes names, many at a time. These tell {count} of what they did.
 */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
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
const ofLibrary = kind === 'library' || kind === 'blocks' || kind === 'metadata';
const fs = ofLibrary ? await connect({ data: where, label: 'chaos' }) : undefined;

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

async function numberedFiles() {
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
}

const LARGE_BYTES = 16 << 20;
/** Files that are written over in turn, so that the disk is not filled. */
const LARGE_COUNT = 8;

async function largeFiles() {
  const base = randomBytes(LARGE_BYTES);
  for (let count = 0; !stop; count++) {
    // New blocks each time: equal ones would be stored once.
    for (let at = 0; at < LARGE_BYTES; at += 1 << 20) base.writeDoubleLE(Math.random(), at);
    const name = `/${kind}-large-${count % LARGE_COUNT}`;
    if (fs === undefined) await writeFile(`${where}${name}`, base);
    else await fs.writeFile(name, base);
    const back = fs === undefined ? readFileSync(`${where}${name}`) : await fs.readFile(name);
    if (!base.equals(back)) throw new Error(`${name} reads back otherwise than it was written`);
    process.send?.({ count: count * 8 });
    await setImmediate();
  }
}

const AT_ONCE = 64;

async function names() {
  const own = /** @type {NonNullable<typeof fs>} */ (fs);
  let count = 0;
  /** @param {number} lane */
  const work = async (lane) => {
    await own.mkdir(`/names-${lane}`);
    for (let index = 0; !stop; index++) {
      const path = `/names-${lane}/${index}`;
      await own.writeFile(path, 'small');
      await own.stat(path);
      await own.rename(path, `${path}.new`);
      await own.unlink(`${path}.new`);
      count += 4;
      if (count % 1_000 === 0) process.send?.({ count });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, (_, lane) => work(lane)));
}

const jobs = { mount: numberedFiles, library: numberedFiles, stream: largeFiles, blocks: largeFiles, metadata: names };
try {
  await jobs[/** @type {keyof typeof jobs} */ (kind)]();
} catch (error) {
  process.send?.({ failed: `${kind}: ${String(error)}` });
}
await fs?.close();
process.disconnect?.();
