// Writes files of all sizes into MOUNT/files until it is killed. A line goes into the manifest only after the file was
// closed (or, each third time, fsynced) and renamed: from then on it must survive.
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { createHash, randomBytes } from 'node:crypto';

const [mount, manifest] = process.argv.slice(2);
const log = openSync(manifest, 'a');
mkdirSync(`${mount}/files`, { recursive: true });
for (let round = 0; ; round++) {
  const size = [0, 1, 4096, 16_384, 16_385, 100_000, 4 << 20, (4 << 20) + 1, 9_000_000][round % 9];
  const data = randomBytes(size);
  const name = `file-${round}-${size}`;
  const fd = openSync(`${mount}/files/${name}.part`, 'w');
  for (let at = 0; at < data.length; at += 1 << 20) writeSync(fd, data, at, Math.min(1 << 20, data.length - at));
  if (round % 3 === 0) fsyncSync(fd);
  closeSync(fd);
  renameSync(`${mount}/files/${name}.part`, `${mount}/files/${name}`);
  writeSync(log, `${name} ${createHash('sha256').update(data).digest('hex')}\n`);
}
