// The block store by itself, on a local directory.
//   node examples/blocks.js [DIRECTORY]
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MemoryStore, PackStore } from 'tatamifs/blocks';

const path = process.argv[2] ?? (await mkdtemp(join(tmpdir(), 'tatami-blocks-')));
const store = await PackStore.open({ path });

// A block is named by its content; it is on disk when put resolves.
const data = Buffer.alloc(1_000_000, 'tatami');
const id = await store.put(data);
console.log(Buffer.from(id).toString('hex')); // prints 7225b5ac74b8a48f29b0b712e5ce244f9c4bd78d4dfcee0d16001676bca2d9db
console.log(Buffer.compare(await store.get(id), data) === 0); // prints true

// A range: only its pages are read, and checked against the name.
console.log(Buffer.from(await store.get(id, { offset: 6, length: 6 })).toString()); // prints tatami

// Many at once wait for the disk once.
const ids = await store.putMany([Buffer.from('one'), Buffer.from('two'), Buffer.from('three')]);
const words = [];
for await (const bytes of store.getMany(ids)) words.push(Buffer.from(bytes).toString());
console.log(words.join(' ')); // prints one two three

let count = 0;
for await (const block of store.list()) count += block.lengthBytes > 0 ? 1 : 0;
console.log(count, await store.delete(id), await store.has(id)); // prints 4 true false
await store.close();

// The same interface in memory, for tests.
const memory = new MemoryStore();
console.log(await memory.has(await memory.put(Buffer.from('only here')))); // prints true
await memory.close();
