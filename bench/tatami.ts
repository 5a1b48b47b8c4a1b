/** The command, for benchmarks that make clusters of their own. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const TATAMI = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));

/** Runs it to its end; throws for an exit code other than 0. */
export function tatami(...args: string[]): void {
  execFileSync(process.execPath, [TATAMI, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
}
