/** Real files and real programs on the mount: what goes in comes out, after a restart and a cold cache too. */
import { existsSync, mkdirSync, readdirSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestCluster, sha256, shell } from './support.ts';

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
/** A part of Debian's linux-source-6.1 with some thousands of files, unpacked once for all tests on a machine. */
const KERNEL_PART = 'drivers/net';
const KERNEL_CACHE = join(tmpdir(), 'tatami-linux-source');
/** What is copied from it to the mount. */
const COPIED = 'wireless';
const LEAST_FILES = 1_500;

async function kernelTree(): Promise<string> {
  const tree = join(KERNEL_CACHE, KERNEL_PART);
  if (!existsSync(join(KERNEL_CACHE, 'complete'))) {
    mkdirSync(KERNEL_CACHE, { recursive: true });
    await shell(
      `tar -xJf /usr/src/linux-source-6.1.tar.xz --strip-components=1 -C ${KERNEL_CACHE} linux-source-6.1/${KERNEL_PART}`,
      { timeoutMs: 280_000 },
    );
    writeFileSync(join(KERNEL_CACHE, 'complete'), '');
  }
  return tree;
}

describe('real data', () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await TestCluster.start();
  });
  afterAll(() => cluster.destroy());

  it("keeps Node's own binary, a node_modules tree and a kernel tree, through a cold restart", async () => {
    const binary = realpathSync(process.execPath);
    const modules = join(REPOSITORY, 'node_modules');
    const kernel = join(await kernelTree(), COPIED);
    const count = Number(await shell(`find ${kernel} -type f | wc -l`));
    expect(count).toBeGreaterThan(LEAST_FILES);
    const { mount } = cluster;
    await shell(`cp ${binary} ${mount}/node-binary; cp -a ${kernel} ${mount}/kernel`, { timeoutMs: 280_000 });
    await shell(`mkdir ${mount}/modules; cd ${modules}; cp -a typescript vitest pino level ${mount}/modules/`, {
      timeoutMs: 200_000,
    });
    const check = async () => {
      expect(await sha256(`${mount}/node-binary`)).toBe(await sha256(binary));
      await shell(`cd ${modules}; for d in typescript vitest pino level; do diff -r $d ${mount}/modules/$d; done`, {
        timeoutMs: 200_000,
      });
    };
    await check();
    await cluster.restartCold();
    await check();
    await shell(`diff -r ${kernel} ${mount}/kernel`, { timeoutMs: 280_000 });
    // It runs, too.
    expect((await shell(`${mount}/node-binary --version`)).trim()).toBe(process.version);
  }, 900_000);

  it('serves git', async () => {
    const { mount } = cluster;
    const origin = `${cluster.directory}/origin`;
    await shell(`
      git init -q ${origin}; cd ${origin}; cp -r ${REPOSITORY}/src .; git add .
      git -c user.name=t -c user.email=t@example.org commit -qm first
      git clone -q ${origin} ${mount}/clone; cd ${mount}/clone; git fsck --strict 2>&1
      test -z "$(git status --porcelain)"
      echo change >> src/env.ts; git -c user.name=t -c user.email=t@example.org commit -qam second
      git gc -q; git fsck --strict 2>&1; test -z "$(git status --porcelain)"`);
    await cluster.restartCold();
    await shell(`cd ${mount}/clone; git fsck --strict; test -z "$(git status --porcelain)"; git log --oneline | wc -l`);
  });

  it('serves sqlite3', async () => {
    const file = `${cluster.mount}/test.db`;
    const rows = Array.from({ length: 10_000 }, (_, row) => `insert into t values (${row}, 'row number ${row}');`);
    const script = ['create table t (a integer primary key, b text);', 'begin;', ...rows, 'commit;'].join('\n');
    await shell(`sqlite3 ${file}`, { input: script });
    const single = Array.from({ length: 50 }, (_, row) => `insert into t values (${20_000 + row}, 'own transaction');`);
    await shell(`sqlite3 ${file}`, { input: single.join('\n') });
    await cluster.restartCold();
    const out = await shell(`sqlite3 ${file} 'select count(*) from t; pragma integrity_check;'`);
    expect(out.trim().split('\n')).toEqual(['10050', 'ok']);
  });

  it('keeps times and modes for tar and rsync', async () => {
    const { mount, directory } = cluster;
    const kernel = await kernelTree();
    const source = join(directory, 'source');
    await shell(`
      mkdir ${source}; cp -a ${kernel}/phy ${source}/; ln -s phy/Makefile ${source}/link; mkfifo ${source}/pipe
      ln ${source}/phy/Makefile ${source}/hard; chmod 4751 ${source}/phy/Kconfig; touch -d '2001-02-03 04:05:06.789012345' ${source}/phy/Kconfig
      tar -C ${source} -cf ${directory}/a.tar .; mkdir ${mount}/tar; tar -C ${mount}/tar -xpf ${directory}/a.tar
      rsync -aH ${source}/ ${mount}/rsync/
      test -z "$(rsync -aHi --delete ${source}/ ${mount}/rsync/)"
      test -z "$(rsync -aHni --delete --modify-window=0 ${source}/ ${mount}/tar/ | grep -v '^.d..t' || true)"`);
    const { mtimeNs, mode } = statSync(`${mount}/rsync/phy/Kconfig`, { bigint: true });
    expect(mtimeNs % 1_000_000_000n).toBe(789_012_345n);
    expect(Number(mode) & 0o7777).toBe(0o4751);
    expect(statSync(`${mount}/rsync/hard`).ino).toBe(statSync(`${mount}/rsync/phy/Makefile`).ino);
    expect(readdirSync(`${mount}/rsync`).sort()).toEqual(['hard', 'link', 'phy', 'pipe']);
  });
});
