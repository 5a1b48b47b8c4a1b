/** A file that is opened while its last name is on the way to be removed, through the same mount. */
import { beforeEach, describe, expect, it } from 'vitest';
import { FsError } from '../errors.ts';
import { ROOT_INO, type Ino } from '../ids.ts';
import { WALK_MS } from './contested-names.ts';
import { O_CREAT, O_RDWR, O_TRUNC } from './handles.ts';
import { name, readAll, ROOT, TestCluster, turns, type TestMount } from './testing.ts';

const PLAIN = { noReplace: false, exchange: false };

let cluster: TestCluster;
let mount: TestMount;
let answer: () => void;
let removalFails: FsError | undefined;

beforeEach(async () => {
  cluster = await TestCluster.start(4096);
  mount = await cluster.mount();
  removalFails = undefined;
});

async function makeFile(called: string): Promise<Ino> {
  const made = await mount.vfs.create(ROOT, ROOT_INO, name(called), 0o644, O_RDWR | O_CREAT);
  await mount.vfs.write(ROOT, made.handle, 0, Buffer.from('content'));
  await mount.vfs.flush(ROOT, made.handle, 0n);
  mount.vfs.release(made.handle);
  return made.attr.ino;
}

/** Removals are asked for, and done when `answer` is called. */
function holdRemovals(): void {
  const held = new Promise<void>((resolve) => (answer = resolve));
  mount.meta.beforeMutate = async ({ op }) => {
    if (op !== 'unlink' && op !== 'rename') return;
    await held;
    if (removalFails !== undefined) throw removalFails;
  };
}

async function opened(ino: Ino): Promise<string> {
  try {
    const { handle } = await mount.vfs.open(ROOT, ino, O_RDWR);
    await mount.vfs.write(ROOT, handle, 0, Buffer.from('C'));
    await mount.vfs.fsync(ROOT, handle, false);
    const content = (await readAll(mount.vfs, handle, 0, 100)).toString();
    mount.vfs.release(handle);
    return content;
  } catch (error) {
    return (error as FsError).code;
  }
}

describe.each(['unlink', 'rename'] as const)('while %s is on its way', (how) => {
  const remove = () =>
    how === 'unlink'
      ? mount.vfs.unlink(ROOT, ROOT_INO, name('f'))
      : mount.vfs.rename(ROOT, ROOT_INO, name('new'), ROOT_INO, name('f'), PLAIN);

  it.each(['known', 'forgotten'])('a file that is opened, and %s, is there for good or not at all', async (state) => {
    await makeFile('new');
    const ino = await makeFile('f');
    if (state === 'forgotten') mount.vfs.forget(ino, 1);
    holdRemovals();
    const removing = remove();
    await turns();
    const opening = opened(ino);
    await turns();
    answer();
    await removing;
    expect(await opening).toBe('ENOENT');
  });

  it('a file is opened if its name could not be removed', async () => {
    await makeFile('new');
    const ino = await makeFile('f');
    removalFails = new FsError('EROFS');
    holdRemovals();
    const removing = remove();
    await turns();
    const opening = opened(ino);
    answer();
    await expect(removing).rejects.toMatchObject({ code: 'EROFS' });
    expect(await opening).toBe('Content');
  });

  it('other files are opened, and do not wait', async () => {
    await makeFile('new');
    await makeFile('f');
    const other = await makeFile('other');
    holdRemovals();
    const removing = remove();
    await turns();
    expect(await opened(other)).toBe('Content');
    answer();
    await removing;
  });
});

describe('a name whose file was gone when it was to be opened', () => {
  /** An open of what was there has failed, and the path is walked once more. */
  async function walkedAgain(): Promise<Ino> {
    const first = await makeFile('f');
    await makeFile('second');
    await makeFile('third');
    holdRemovals();
    const replacing = mount.vfs.rename(ROOT, ROOT_INO, name('second'), ROOT_INO, name('f'), PLAIN);
    const opening = opened(first);
    await turns();
    answer();
    await replacing;
    expect(await opening).toBe('ENOENT');
    mount.meta.beforeMutate = undefined;
    return (await mount.vfs.lookup(ROOT, ROOT_INO, name('f'))).attr.ino;
  }
  const replaceAgain = () => mount.vfs.rename(ROOT, ROOT_INO, name('third'), ROOT_INO, name('f'), PLAIN);
  /** As the servers say. */
  async function isThere(ino: Ino): Promise<boolean> {
    return await mount.meta.query<'getattr'>({ op: 'getattr', ino }).then(
      () => true,
      () => false,
    );
  }

  it.each([
    ['read', O_RDWR, 'content'],
    ['emptied', O_RDWR | O_TRUNC, ''],
  ] as const)(
    'is found when it is looked for again, however often it is replaced, and can be %s',
    async (_, flags, seen) => {
      const ino = await walkedAgain();
      await replaceAgain();
      const { handle } = await mount.vfs.open(ROOT, ino, flags);
      expect((await readAll(mount.vfs, handle, 0, 100)).toString()).toBe(seen);
      mount.vfs.release(handle);
      await cluster.clock.advance(WALK_MS);
      await turns();
      expect(await isThere(ino)).toBe(false);
    },
  );

  it('does not keep what nobody opens', async () => {
    const ino = await walkedAgain();
    await replaceAgain();
    expect(await isThere(ino)).toBe(true);
    await cluster.clock.advance(WALK_MS);
    await turns();
    expect(await isThere(ino)).toBe(false);
  });
});
