// @ts-check
/**
 * `npm test`: everything that must hold, in the order in which a failure is cheapest to find. All steps run even if one
 * fails; the last line counts tests over all vitest runs, a failed step without tests of its own counting as one:
 *
 *   123 passed, 0 failed
 *
 * `node scripts/test.js lint unit` runs only these steps.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensurePrograms } from './system-packages.js';
import { countTests, E2E_PROGRAMS } from './test-report.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const reports = mkdtempSync(join(tmpdir(), 'tatami-test-'));

/**
 * `beside`: it uses one core, so those that follow each other with it run at once.
 * @typedef {{ name: string, command: string[], report?: string, beside?: boolean }} Step
 */

/** @type {Step[]} */
const steps = [
  npmStep('build'),
  { ...npmStep('lint:code'), beside: true },
  { ...npmStep('lint:format'), beside: true },
  { ...npmStep('types'), beside: true },
  { ...npmStep('tidy'), beside: true },
  vitestStep('unit'),
  vitestStep('sim'),
  ...exampleSteps(),
  vitestStep('e2e'),
];

const wanted = process.argv.slice(2);
let passed = 0;
let failed = 0;
/** @type {string[]} */
const summary = [];
/** Steps that run at once, and those that run alone. @type {Step[][]} */
const turns = [];
for (const step of steps) {
  if (wanted.length > 0 && !wanted.includes(step.name.split(/[ :]/)[0] ?? '')) continue;
  const before = turns.at(-1);
  if (step.beside === true && before?.[0]?.beside === true) before.push(step);
  else turns.push([step]);
}
try {
  for (const turn of turns) {
    const [step] = turn;
    if (step === undefined) continue;
    if (step.name === 'e2e') ensurePrograms(E2E_PROGRAMS);
    if (turn.length === 1) runAlone(step);
    else await Promise.all(turn.map(runBeside));
  }
} finally {
  rmSync(reports, { recursive: true, force: true });
}
console.log(`\n${summary.join('\n')}`);
// All steps and no test at all is a broken installation, not a success.
if (failed > 0 || (wanted.length === 0 && passed === 0)) process.exitCode = 1;
console.log(`${passed} passed, ${failed} failed`);

/** @param {Step} step */
function heading({ name, command }) {
  return `\n== ${name}: ${command.join(' ')}`;
}

/** @param {Step} step */
function runAlone(step) {
  console.log(heading(step));
  const started = Date.now();
  const [program = '', ...rest] = step.command;
  const { status, error } = spawnSync(program, rest, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (error) console.error(error.message);
  count(step, status === 0, started);
}

/** What it says comes when it has ended. @param {Step} step @returns {Promise<void>} */
function runBeside(step) {
  const started = Date.now();
  const [program = '', ...rest] = step.command;
  const child = spawn(program, rest, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  /** @type {Buffer[]} */
  const said = [];
  child.stdout.on('data', (/** @type {Buffer} */ chunk) => said.push(chunk));
  child.stderr.on('data', (/** @type {Buffer} */ chunk) => said.push(chunk));
  return new Promise((resolve) => {
    child.once('error', (error) => said.push(Buffer.from(`${error.message}\n`)));
    child.once('close', (code) => {
      console.log(heading(step));
      process.stdout.write(Buffer.concat(said));
      count(step, code === 0, started);
      resolve();
    });
  });
}

/** @param {Step} step @param {boolean} succeeded @param {number} started */
function count({ name, report }, succeeded, started) {
  const text = report !== undefined && existsSync(report) ? readFileSync(report, 'utf8') : undefined;
  const counts = countTests(succeeded, text);
  passed += counts.passed;
  failed += counts.failed;
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  summary.push(`${name}: ${counts.passed} passed, ${counts.failed} failed (${seconds} s)`);
}

/**
 * @param {string} name
 * @returns {Step}
 */
function npmStep(name) {
  return { name, command: ['npm', 'run', '--silent', name] };
}

/**
 * @param {string} name of a project of vitest.config.ts, and of those whose names begin with it
 * @returns {Step}
 */
function vitestStep(name) {
  const report = join(reports, `${name}.json`);
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const options = ['--project', `${name}*`, '--passWithNoTests', '--reporter=default', '--reporter=json'];
  return { name, report, command: [process.execPath, vitest, 'run', ...options, `--outputFile.json=${report}`] };
}

/**
 * Every file in examples/ runs, and prints what it says. TypeScript ones are run by a test (test/e2e).
 * @returns {Step[]}
 */
function exampleSteps() {
  const folder = join(root, 'examples');
  const runner = join(root, 'scripts', 'examples.js');
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => /\.m?js$/.test(name)) : [];
  return names.sort().map((name) => ({ name: `examples ${name}`, command: [process.execPath, runner, name] }));
}
