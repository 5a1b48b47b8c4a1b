// Blocks on the nodes of a cluster. Start one first: npx tatami up --detach
//   node examples/replicated-blocks.js [DATA_DIRECTORY]
import { ReplicatedStore } from 'tatamifs/blocks';

const store = await ReplicatedStore.connect({
  data: process.argv[2] ?? './tatami-data',
  label: 'examples/replicated-blocks.js',
});

// On disk on two nodes when it resolves; the third copy follows by itself.
const data = Buffer.alloc(1_000_000, 'tatami');
const id = await store.put(data);
console.log(Buffer.from(id).toString('hex')); // prints 7225b5ac74b8a48f29b0b712e5ce244f9c4bd78d4dfcee0d16001676bca2d9db

// From whichever node answers best, and checked here against the name: no node needs to be trusted.
console.log(Buffer.compare(await store.get(id), data) === 0); // prints true
console.log(Buffer.from(await store.get(id, { offset: 6, length: 6 })).toString()); // prints tatami

// The interface is that of the local stores.
const ids = await store.putMany([Buffer.from('one'), Buffer.from('two'), Buffer.from('three')]);
const words = [];
for await (const bytes of store.getMany(ids)) words.push(Buffer.from(bytes).toString());
console.log(words.join(' ')); // prints one two three

// A library's pool is never swept: what is no longer wanted is deleted by its owner.
console.log(await store.delete(id), await store.deleteMany(ids)); // prints true 3

// The pools of filesystems are not for this.
try {
  await ReplicatedStore.connect({ data: process.argv[2] ?? './tatami-data' }, 'files');
} catch (error) {
  console.log(error.code); // prints ERR_USAGE
}

await store.close(); // and with it the connection
