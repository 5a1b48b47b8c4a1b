/** Writes a file in 1 MiB writes with fsync, drops nothing, reads it back; a process of its own, so that sampling goes on. */
import { readFileTimed, writeFileTimed } from './measure.ts';

const [path, sizeBytes] = process.argv.slice(2);
if (path === undefined || sizeBytes === undefined) throw new Error('usage: streamer PATH BYTES');
writeFileTimed(path, Number(sizeBytes));
readFileTimed(path);
