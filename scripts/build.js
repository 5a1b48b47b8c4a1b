// @ts-check
/**
 * `npm run build`: compiles src/ and bench/ to dist/ and makes the command executable. What an earlier build left of a source
 * that is gone now is removed first, so that a package never ships it.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');

rmSync(join(root, 'dist'), { recursive: true, force: true });
const { status, error } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], {
  cwd: root,
  stdio: 'inherit',
});
if (error) throw error;
const main = join(root, 'dist', 'src', 'cli', 'main.js');
if (existsSync(main)) chmodSync(main, 0o755);
process.exitCode = status ?? 1;
