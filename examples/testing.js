// A whole cluster of three nodes inside this process: for the tests of your own program.
//   node examples/testing.js
import { startCluster } from 'tatamifs/testing';

const cluster = await startCluster({ nodes: 3 });
const fs = await cluster.connect();

await fs.writeFile('/big', Buffer.alloc(10_000_000, 'x'));
await cluster.stopNode('n3'); // neither primary nor secondary: reads and writes go on
console.log((await fs.readFile('/big')).length); // prints 10000000
await fs.writeFile('/more', 'still works');
await cluster.startNode('n3');

// As kill -9: it finishes nothing. What is open goes on when it is back.
cluster.kill('n1');
await cluster.startNode('n1');
console.log(await fs.readFile('/more', 'utf8')); // prints still works

await cluster.close();
