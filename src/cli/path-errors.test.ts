import { expect, it } from 'vitest';
import { FsError } from '../errors.ts';
import { atPath } from './path-errors.ts';

it('errors are about the path that was given, and say what to do next', async () => {
  const failing = (code: string) => () =>
    Promise.reject(Object.assign(new Error(`${code}: open '/a.tatami-put-1'`), { code }));
  const error = await atPath('/a', failing('ENOENT')).catch((reason: unknown) => reason as FsError);
  expect(error).toBeInstanceOf(FsError);
  expect(error).toMatchObject({ code: 'ENOENT', message: 'there is no /a in the cluster' });
  expect(error.remedy).toMatch(/tatami ls/);
  await expect(atPath('/a', failing('ERR_TIMEOUT'))).rejects.toMatchObject({ code: 'ERR_TIMEOUT' });
  expect(await atPath('/a', () => Promise.resolve(1))).toBe(1);
});
