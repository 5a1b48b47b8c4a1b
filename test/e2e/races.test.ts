/** Many programs that use the same few names at once, on one mount and on two: what one has open stays whole whatever others do. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must, mustTatami, TestCluster } from './support.ts';

const RACES = fileURLToPath(new URL('./races.py', import.meta.url));
/** More for a long run: RACES_SECONDS=300. */
const SECONDS = Number(process.env['RACES_SECONDS'] ?? 8);
const SEED = Number(process.env['RACES_SEED'] ?? 1);
const PROGRAMS = 8;
const LIMIT_MS = SECONDS * 1_000 + 60_000;

interface Report {
  /** By call and how it ended, as `open ENOENT`. */
  readonly counts: Readonly<Record<string, number>>;
  readonly views: readonly Readonly<Record<string, unknown>>[];
  readonly exits: readonly number[];
}

/** What ext4 says, too, to the same programs. */
const USUAL = [
  ...['open', 'open O_TRUNC', 'unlink', 'rename', 'link', 'stat', 'chmod', 'setxattr', 'truncate'].map(
    (call) => `${call} ENOENT`,
  ),
  'open O_EXCL EEXIST',
  'link EEXIST',
  'fgetxattr ENODATA',
  'flock EAGAIN',
];
/** The kernel looks a name up once more when its file is gone, and not a third time: several mounts may hit that, seldom. */
const OF_A_NAME_LOST_TWICE = /^(open|open O_TRUNC|open O_CREAT|link|chmod|setxattr|truncate|stat) ESTALE$/;
const LOST_TWICE_MOST = 2;

let cluster: TestCluster;
let second: string;
beforeAll(async () => {
  cluster = await TestCluster.start({ nodes: 3 });
  second = join(cluster.directory, 'second');
  mkdirSync(second);
  await mustTatami(['mount', second, '--data', cluster.data]);
}, 60_000);
afterAll(async () => {
  await mustTatami(['umount', second]).catch(() => undefined);
  await cluster.destroy();
}, 60_000);

async function race(seed: number, ...mounts: string[]): Promise<Report> {
  const args = [RACES, String(SECONDS), String(PROGRAMS), String(seed), ...mounts];
  return JSON.parse(await must('python3', args, { timeoutMs: LIMIT_MS })) as Report;
}

/** Ends that are neither success nor usual. */
function unusual({ counts }: Report): string[] {
  return Object.keys(counts).filter((end) => !end.endsWith(' ok') && !USUAL.includes(end));
}

describe('programs that all use the same few names', () => {
  it('on one mount are told what ext4 tells them, and nothing that is open fails', { timeout: LIMIT_MS }, async () => {
    const report = await race(SEED, cluster.mount);
    expect(unusual(report)).toEqual([]);
    expect(report.exits).toEqual(Array(PROGRAMS).fill(0));
    expect(report.counts['fsync ok']).toBeGreaterThan(20);
  });

  it('on two mounts leave both seeing the same, while the primary is killed', { timeout: LIMIT_MS }, async () => {
    await cluster.waitFor('a secondary', (now) => now.health === 'healthy' && now.groups[0]?.secondary !== null);
    const racing = race(SEED + 1, cluster.mount, second);
    const status = await cluster.status();
    await cluster.kill(status.groups[0]!.primary);
    const report = await racing;
    const ends = unusual(report);
    const lostTwice = ends.filter((end) => OF_A_NAME_LOST_TWICE.test(end));
    expect(ends.filter((end) => !lostTwice.includes(end))).toEqual([]);
    expect(lostTwice.reduce((sum, end) => sum + report.counts[end]!, 0)).toBeLessThanOrEqual(LOST_TWICE_MOST);
    expect(report.exits).toEqual(Array(PROGRAMS).fill(0));
    expect(report.views[1]).toEqual(report.views[0]);
    expect(report.counts['fsync ok']).toBeGreaterThan(20);
  });
});
