/**
 * The client of the directories benchmark: makes the first empty files of a directory or tree by the library, many at once;
 * prints how many it made a second, of the last quarter of them.
 */
import { connect } from '../src/index.ts';
import { directoryOf, FILES_A_DIRECTORY, pathOf, type Shape } from './directories.ts';

const [data, directory, shape, countText] = process.argv.slice(2);
if (data === undefined || directory === undefined || countText === undefined) {
  throw new Error('usage: directories-client DATA DIRECTORY SHAPE COUNT');
}
const count = Number(countText);
const IN_FLIGHT = 64;

await using files = await connect({ data, label: 'bench' });
const directories = new Map<string, Promise<unknown>>();

async function make(index: number): Promise<void> {
  if (shape === 'tree') {
    const name = directoryOf(index);
    let making = directories.get(name);
    if (making === undefined) {
      making = files.mkdir(`${directory}/${name}`);
      directories.set(name, making);
    }
    await making;
    if (index % FILES_A_DIRECTORY === FILES_A_DIRECTORY - 1) directories.delete(name);
  }
  const file = await files.open(`${directory}/${pathOf(shape as Shape, index)}`, 'wx');
  await file.close();
}

async function makeAll(from: number, to: number): Promise<void> {
  let next = from;
  const worker = async () => {
    while (next < to) await make(next++);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
}

const lastFrom = Math.floor((count * 3) / 4);
await makeAll(0, lastFrom);
const started = performance.now();
await makeAll(lastFrom, count);
process.stdout.write(String(((count - lastFrom) * 1_000) / (performance.now() - started)));
