// Streams of any length in a block store: one name each, equal parts stored once.
//   node examples/block-streams.js [DIRECTORY]
import { createHash } from 'node:crypto';
import { mkdtemp, readFile } from 'node:fs/promises';
import { createWriteStream } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { PackStore, blockIdToHex, getStream, putStream, streamBlocks, streamLength } from 'tatamifs/blocks';

const directory = process.argv[2] ?? (await mkdtemp(join(tmpdir(), 'tatami-streams-')));
const store = await PackStore.open({ path: join(directory, 'blocks') });

// Whatever gives chunks of bytes: a file's stream, a request's body, a generator.
function* film(frames) {
  for (let frame = 0; frame < frames; frame++) yield Buffer.alloc(100_000, `frame ${frame} `);
}
const { id, lengthBytes } = await putStream(store, Readable.from(film(50)));
console.log(lengthBytes, await streamLength(store, id)); // prints 5000000 5000000

// All of it, as a stream, a few blocks in memory at a time.
await pipeline(getStream(store, id), createWriteStream(join(directory, 'copy')));
const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');
console.log(digest(await readFile(join(directory, 'copy'))) === digest(Buffer.concat([...film(50)]))); // prints true

// A part: only the blocks that it touches are read.
const part = [];
for await (const chunk of getStream(store, id, { offset: 4_900_000, length: 8 })) part.push(chunk);
console.log(Buffer.concat(part).toString()); // prints frame 49

// A longer cut of the same film shares what is equal.
const before = store.usage().blockCount;
const longer = await putStream(store, film(80));
console.log(store.usage().blockCount - before); // prints 5

// What no stream to keep needs may go: collect what is needed, delete the rest.
const needed = new Set();
for await (const block of streamBlocks(store, longer.id)) needed.add(blockIdToHex(block));
const doomed = [];
for await (const block of store.list()) if (!needed.has(blockIdToHex(block.id))) doomed.push(block.id);
console.log(await store.deleteMany(doomed)); // prints 2

// A signal ends it, also while the source says nothing.
async function* silent() {
  await new Promise((resolve) => setTimeout(resolve, 60_000).unref());
  yield Buffer.from('too late');
}
const giveUp = new AbortController();
const putting = putStream(store, silent(), { signal: giveUp.signal });
giveUp.abort();
await putting.catch((error) => console.log(error.code)); // prints ERR_CANCELLED

await store.close();
