// @ts-check
/**
 * Counting what `npm test` ran.
 */

/** Programs that tests on a mount use (test/e2e); what is missing is installed if it may be. */
export const E2E_PROGRAMS = [
  ...[
    'git',
    'sqlite3',
    'rsync',
    'tar',
    'xz',
    'diff',
    'flock',
    'mount',
    'unshare',
    'nsenter',
    'ip',
    'fusermount',
    'setfattr',
    'setfacl',
    'python3',
  ],
  '/usr/src/linux-source-6.1.tar.xz',
];

/**
 * Tests of one step. A step without a report counts only if it fails, as one; a vitest run that fails although its report knows of no
 * failure (a file that does not load, an error outside of tests) counts as one failure more.
 * @param {boolean} succeeded whether the step's program ended with exit code 0
 * @param {string | undefined} report of vitest's JSON reporter
 * @returns {{ passed: number, failed: number }}
 */
export function countTests(succeeded, report) {
  const counts = report === undefined ? undefined : parseReport(report);
  if (counts === undefined) return { passed: 0, failed: succeeded ? 0 : 1 };
  if (!succeeded && counts.failed === 0) counts.failed = 1;
  return counts;
}

/**
 * @param {string} report
 * @returns {{ passed: number, failed: number } | undefined}
 */
function parseReport(report) {
  /** @type {unknown} */
  let parsed;
  try {
    parsed = JSON.parse(report);
  } catch {
    return undefined;
  }
  const { numPassedTests, numFailedTests } = /** @type {Record<string, unknown>} */ (parsed);
  if (typeof numPassedTests !== 'number' || typeof numFailedTests !== 'number') return undefined;
  return { passed: numPassedTests, failed: numFailedTests };
}
