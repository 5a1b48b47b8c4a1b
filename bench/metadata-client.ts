/**
 * The client of the metadata benchmark: operations of one kind, so many in flight, in a directory of a cluster; prints
 * each kind's operations per second as JSON.
 */
import { connect } from '../src/index.ts';

const [data, directory, countText, inFlightText] = process.argv.slice(2);
if (data === undefined || directory === undefined || countText === undefined || inFlightText === undefined) {
  throw new Error('usage: metadata-client DATA DIRECTORY COUNT IN-FLIGHT');
}
const count = Number(countText);
const inFlight = Number(inFlightText);

async function perSecond(work: (index: number) => Promise<unknown>): Promise<number> {
  let next = 0;
  const started = performance.now();
  const worker = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  return (count * 1000) / (performance.now() - started);
}

await using maker = await connect({ data, label: 'bench' });
await maker.mkdir(directory);
const create = await perSecond(async (index) => {
  const file = await maker.open(`${directory}/file-${index}`, 'wx');
  await file.close();
});
// A client that has not seen these files: what it asks for, it asks of the group.
await using other = await connect({ data, label: 'bench' });
const stat = await perSecond((index) => other.stat(`${directory}/file-${index}`));
const rename = await perSecond((index) => other.rename(`${directory}/file-${index}`, `${directory}/moved-${index}`));
const unlink = await perSecond((index) => other.unlink(`${directory}/moved-${index}`));
process.stdout.write(JSON.stringify({ create, stat, rename, unlink }));
