// @ts-check
/**
 * One program that scripts/churn.js runs: churn-worker DIRECTORY SEED. It makes, writes over, cuts, appends to, copies, renames and
 * removes files in a directory of a mount, and knows what each must hold: some are read back as it goes, all of them at the end.
 * Content comes back now and then that was deleted before, so that blocks are wanted again while they are being freed.
 *
 * Tells the parent {count} of what it did and, at the end, {files: [name, digest][], bytes}; or {failed}.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { setImmediate } from 'node:timers/promises';

const [directory = '', seedText = '1'] = process.argv.slice(2);
/** What one worker keeps at the most, in memory too. */
const LIVE_MAX_BYTES = 96 << 20;
const FILE_MAX_BYTES = 12 << 20;
/** Contents that are stored again after they were deleted. */
const FAVOURITES = 6;

let state = Number(seedText) >>> 0 || 1;
/** A number from 0 to `below` - 1. @param {number} below */
function draw(below) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

/** @param {number} length @returns {Buffer} */
function content(length) {
  const data = Buffer.allocUnsafe(length);
  for (let at = 0; at + 4 <= length; at += 4) data.writeUInt32LE(draw(2 ** 32), at);
  data.fill(draw(256), length - (length % 4));
  return data;
}

const favourites = Array.from({ length: FAVOURITES }, (_, index) => content(70_000 * (index + 1) * (index + 1)));

function length() {
  switch (draw(10)) {
    case 0:
    case 1:
    case 2:
      return draw(16_000);
    case 3:
    case 4:
    case 5:
    case 6:
      return draw(300_000);
    default:
      return 300_000 + draw(8 << 20);
  }
}

/** What each file must hold. @type {Map<string, Buffer>} */
const files = new Map();
let liveBytes = 0;
let made = 0;

/** @param {string} name @param {Buffer | undefined} data */
function now(name, data) {
  liveBytes += (data?.length ?? 0) - (files.get(name)?.length ?? 0);
  if (data === undefined) files.delete(name);
  else files.set(name, data);
}

const pathOf = (/** @type {string} */ name) => join(directory, name);

/** @param {string} name @param {number} at @param {Buffer} data */
function writeAt(name, at, data) {
  const fd = openSync(pathOf(name), 'r+');
  try {
    for (let done = 0; done < data.length;) done += writeSync(fd, data, done, data.length - done, at + done);
    if (draw(4) === 0) fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** @param {string} name */
function check(name) {
  const data = files.get(name);
  if (data === undefined) return;
  const found = readFileSync(pathOf(name));
  if (found.equals(data)) return;
  let at = 0;
  while (at < data.length && found[at] === data[at]) at++;
  throw new Error(`${name}: ${found.length} bytes, ${data.length} are right; the first wrong one is at ${at}`);
}

function pick() {
  const names = [...files.keys()];
  return names[draw(names.length)];
}

function step() {
  const name = pick();
  const kind = liveBytes > LIVE_MAX_BYTES ? 8 : draw(13);
  if (name === undefined || kind <= 3) {
    const fresh = `f${made++}`;
    const data = draw(3) === 0 ? /** @type {Buffer} */ (favourites[draw(FAVOURITES)]) : content(length());
    writeFileSync(pathOf(fresh), data, { flag: 'wx' });
    return now(fresh, data);
  }
  const data = /** @type {Buffer} */ (files.get(name));
  switch (kind) {
    case 4: {
      if (data.length === 0) return;
      const at = draw(data.length);
      const part = content(Math.min(data.length - at, length()));
      writeAt(name, at, part);
      const next = Buffer.from(data);
      part.copy(next, at);
      return now(name, next);
    }
    case 5: {
      const part = content(Math.min(FILE_MAX_BYTES - data.length, length()));
      writeAt(name, data.length, part);
      return now(name, Buffer.concat([data, part]));
    }
    case 6: {
      const size = draw(data.length + 1);
      truncateSync(pathOf(name), size);
      return now(name, Buffer.from(data.subarray(0, size)));
    }
    case 7: {
      const other = `f${made++}`;
      renameSync(pathOf(name), pathOf(other));
      now(name, undefined);
      return now(other, data);
    }
    case 8:
    case 9:
      unlinkSync(pathOf(name));
      return now(name, undefined);
    case 10: {
      const other = `f${made++}`;
      const copied = readFileSync(pathOf(name));
      if (!copied.equals(data)) check(name);
      writeFileSync(pathOf(other), copied, { flag: 'wx' });
      return now(other, data);
    }
    default:
      return check(name);
  }
}

let stop = false;
process.on('message', () => (stop = true));
try {
  for (let count = 1; !stop; count++) {
    step();
    if (count % 20 === 0) process.send?.({ count });
    // Room for messages, as the mount's calls are synchronous.
    await setImmediate();
  }
  for (const name of files.keys()) check(name);
  const digests = [...files].map(([name, data]) => [name, createHash('sha256').update(data).digest('hex')]);
  process.send?.({ files: digests, bytes: liveBytes });
} catch (error) {
  process.send?.({ failed: `${directory}: ${String(error)}` });
}
process.disconnect?.();
