// What happens in a cluster, from a program. Start one first: npx tatami up --detach
//   node examples/events.js [DATA_DIRECTORY]
import { events } from 'tatamifs';

const data = process.argv[2] ?? './tatami-data';

// What happened so far: the nodes keep it on their disks.
const started = new Set();
for await (const event of events({ data, follow: false })) {
  if (event.kind === 'node-up') started.add(event.node);
}
console.log([...started].sort().join(' ')); // prints n1 n2 n3

// What happens from some time on, until the loop is left or the signal fires. Here the past is long enough.
const signal = AbortSignal.timeout(30_000);
for await (const event of events({ data, since: new Date(0), signal, label: 'examples/events.js' })) {
  if (event.kind !== 'node-up') continue;
  console.log(/^node n[123] is up$/.test(event.text), event.at instanceof Date); // prints true true
  break;
}
