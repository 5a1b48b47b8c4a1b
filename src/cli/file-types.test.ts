import { expect, it } from 'vitest';
import { modeText, typeName } from './file-types.ts';

it.each([
  [0o100644, 'file', '-rw-r--r--'],
  [0o041777, 'directory', 'drwxrwxrwt'],
  [0o104755, 'file', '-rwsr-xr-x'],
  [0o102640, 'file', '-rw-r-S---'],
  [0o120777, 'symlink', 'lrwxrwxrwx'],
  [0o010600, 'fifo', 'prw-------'],
])('%o', (mode, type, text) => {
  expect([typeName(mode), modeText(mode)]).toEqual([type, text]);
});
