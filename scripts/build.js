// @ts-check
/**
 * `npm run build`: compiles src/ and bench/ to dist/, bundles the command and makes it executable. What an earlier build left of a source
 * that is gone now is removed first, so that a package never ships it.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleCommand } from './bundle.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');

rmSync(join(root, 'dist'), { recursive: true, force: true });
const { status, error } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], {
  cwd: root,
  stdio: 'inherit',
});
if (error) throw error;
if (status !== 0) process.exit(status ?? 1);
await bundleCommand(join(root, 'dist'));
chmodSync(join(root, 'dist', 'src', 'cli', 'main.js'), 0o755);
