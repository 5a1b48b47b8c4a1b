// Files of a cluster from a program. Start one first: npx tatami up --detach
//   node examples/files.js [DATA_DIRECTORY]
import { connect } from 'tatamifs';

const fs = await connect({ data: process.argv[2] ?? './tatami-data', label: 'examples/files.js' });

await fs.mkdir('/example', { recursive: true });
await fs.writeFile('/example/hello.txt', 'hello, tatami\n');
await fs.appendFile('/example/hello.txt', 'and once more\n');
console.log(await fs.readFile('/example/hello.txt', 'utf8'));
// prints hello, tatami
// prints and once more

// Handles read and write anywhere in a file; what was never written is a hole and reads as zeros.
const file = await fs.open('/example/sparse', 'w+');
await file.write(Buffer.from('far away'), 0, 8, 1_000_000);
await file.sync(); // on disk on two nodes
console.log((await file.stat()).size); // prints 1000008
await file.close();

// Streams.
let total = 0;
for await (const chunk of fs.createReadStream('/example/sparse')) total += chunk.length;
console.log(total); // prints 1000008

for (const entry of await fs.readdir('/example', { withFileTypes: true })) {
  console.log(entry.isDirectory() ? 'directory' : 'file', String(entry.name));
}
// prints file hello.txt
// prints file sparse

// Errors are those of node:fs.
try {
  await fs.readFile('/example/no-such-file');
} catch (error) {
  console.log(error.code); // prints ENOENT
}

await fs.rm('/example', { recursive: true });
await fs.close();
