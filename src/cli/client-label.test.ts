import { expect, it } from 'vitest';
import { clientLabel, isThisProcess, parseClientLabel } from './client-label.ts';

it('labels are read back as they were written', () => {
  expect(parseClientLabel(clientLabel('mount /a on b', 'h1', 7))).toEqual({
    ...{ kind: 'mount', label: 'mount /a on b', mountPoint: '/a on b', host: 'h1', pid: 7 },
  });
  expect(parseClientLabel(clientLabel('tatami ls', 'h1', 7))).toEqual({
    ...{ kind: 'program', label: 'tatami ls', host: 'h1', pid: 7 },
  });
  expect(parseClientLabel('mount point maker')).toEqual({
    ...{ kind: 'program', label: 'mount point maker', host: null, pid: null },
  });
  expect(isThisProcess(parseClientLabel(clientLabel('tatami status')))).toBe(true);
  expect(isThisProcess(parseClientLabel('tatami status'))).toBe(false);
});
