// A blockstore of the IPFS world (interface-blockstore) in a directory; a Helia node takes it as it is:
//   createHelia({ blockstore })
// It needs: npm install multiformats interface-store
//   node examples/blockstore.js [DIRECTORY]
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CID } from 'multiformats/cid';
import { sha256 } from 'multiformats/hashes/sha2';
import { PackStore } from 'tatamifs/blocks';
import { TatamiBlockstore } from 'tatamifs/blockstore';

const path = process.argv[2] ?? (await mkdtemp(join(tmpdir(), 'tatami-blockstore-')));
let blockstore = await TatamiBlockstore.open({ store: await PackStore.open({ path }) });

const RAW = 0x55;
const bytes = Buffer.from('hello from a mat');
const cid = CID.createV1(RAW, await sha256.digest(bytes));
console.log((await blockstore.put(cid, bytes)).toString()); // prints bafkreicmbotf5l23gsgkaxpwqvwmcxbmaxsqtyyhctlg2zqvjtysij7voe

// Version and codec of a CID make no difference: the multihash names the block.
for await (const chunk of blockstore.get(CID.createV0(cid.multihash))) console.log(Buffer.from(chunk).toString()); // prints hello from a mat

// Bytes that the CID does not name are refused.
const other = CID.createV1(RAW, await sha256.digest(Buffer.from('something else')));
await blockstore.put(other, bytes).catch((error) => console.log(error.code)); // prints ERR_CORRUPT

// Many: CIDs come back in order, each when its block is on disk.
async function* numbered(count) {
  for (let number = 0; number < count; number++) {
    const data = Buffer.from(`block ${number}`);
    yield { cid: CID.createV1(RAW, await sha256.digest(data)), bytes: data };
  }
}
const cids = [];
for await (const stored of blockstore.putMany(numbered(100))) cids.push(stored);

// It is all there the next time.
await blockstore.close();
blockstore = await TatamiBlockstore.open({ store: await PackStore.open({ path }) });
let count = 0;
for await (const { lengthBytes } of blockstore.list()) count += lengthBytes > 0 ? 1 : 0;
console.log(count, await blockstore.has(cids[42])); // prints 101 true

for await (const gone of blockstore.deleteMany(cids)) count -= gone ? 1 : 0;
console.log(count); // prints 1
const missing = blockstore.get(cids[42]).next();
await missing.catch((error) => console.log(error.name)); // prints NotFoundError
await blockstore.close();
