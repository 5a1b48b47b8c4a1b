// @ts-check
/**
 * Part of `npm run build`: puts the modules of the `tatami` command together, so that it starts in half the time. The
 * entry stays dist/src/cli/main.js; what commands load when they run comes in files beside it. The library is not bundled.
 *
 * Left out: the benchmarks, which find their own parts by their place; errors.js, so that an error is of the same class on both
 * sides; and packages with native parts or that load files of their own.
 */
import { join } from 'node:path';
import { rolldown } from 'rolldown';

const UNBUNDLED = ['pino', 'level', 'classic-level', 'msgpackr', 'fuse-native'];

/** @param {string} dist */
export async function bundleCommand(dist) {
  const cli = join(dist, 'src', 'cli');
  const apart = [join(dist, 'bench'), join(dist, 'src', 'errors.js')];
  const bundle = await rolldown({
    input: join(cli, 'main.js'),
    platform: 'node',
    external: (id) => UNBUNDLED.includes(id) || id.startsWith('@napi-rs/') || apart.some((path) => id.startsWith(path)),
    logLevel: 'warn',
  });
  try {
    await bundle.write({ format: 'esm', entryFileNames: 'main.js', chunkFileNames: 'part-[name]-[hash].js', dir: cli });
  } finally {
    await bundle.close();
  }
}
