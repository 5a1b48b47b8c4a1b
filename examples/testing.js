// A whole cluster of three nodes inside this process: for the tests of your own program.
//   node examples/testing.js
import { startCluster } from 'tatamifs/testing';

const cluster = await startCluster({ nodes: 3 });
const fs = await cluster.connect();

await fs.writeFile('/big', Buffer.alloc(10_000_000, 'x'));
await cluster.stopNode('n3'); // neither primary nor secondary: reads and writes go on
console.log((await fs.readFile('/big')).length);
await fs.writeFile('/more', 'still works');
await cluster.startNode('n3');
console.log(await fs.readFile('/more', 'utf8'));

await cluster.close();
