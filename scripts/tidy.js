// @ts-check
/**
 * `npm run tidy`: the rules of style that matter, as a check. What it looks for, and why:
 *
 * - purity: only shells may touch clock, chance, timers, disk or sockets directly (scripts/purity.js).
 * - layers: calls go down, never up, never sideways between meta and blocks; nor around, by the package's own name.
 * - placement: no floating-point function whose last digits ECMAScript leaves to the engine; nodes must agree.
 * - leftovers: no focused or skipped tests, no notes to self.
 * - size: a long file is rarely one idea.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import ts from 'typescript';
import { checkPurity, isShell } from './purity.js';
import { importsOf, lineOf, walk } from './ts-source.js';

/** @typedef {{ path: string, line: number, message: string }} Finding */
/** @typedef {import('./ts-source.js').Import} Import */

const INEXACT_MATH = /^(a?(cos|sin|tan)h?|atan2|cbrt|exp|expm1|f16round|hypot|log|log10|log1p|log2|pow|sqrt)$/;

/** What each layer may import. `root` is node.ts, index.ts, testing.ts and what else in src/ wires layers together. */
/** @type {Record<string, string[]>} */
const MAY_IMPORT = {
  base: ['base'],
  net: ['base', 'net'],
  catalog: ['base', 'net', 'catalog'],
  meta: ['base', 'net', 'catalog', 'meta'],
  blocks: ['base', 'net', 'catalog', 'blocks'],
  vfs: ['base', 'net', 'catalog', 'meta', 'blocks', 'vfs'],
  upkeep: ['base', 'net', 'catalog', 'meta', 'blocks', 'upkeep'],
  fuse: ['base', 'fuse'],
  world: ['base', 'net', 'world'],
  root: ['base', 'net', 'catalog', 'meta', 'blocks', 'vfs', 'upkeep', 'fuse', 'world', 'root'],
  cli: ['base', 'net', 'catalog', 'meta', 'blocks', 'vfs', 'upkeep', 'fuse', 'world', 'root', 'cli', 'bench'],
};
/**
 * Public facades that wire the real world by themselves when the caller gives none.
 * @type {Record<string, string[]>}
 */
const MAY_ALSO_IMPORT = {
  'src/blocks/pack-store.ts': ['src/env-node.ts'],
  'src/blocks/replicated-store.ts': ['src/env-node.ts'],
  'src/blocks/blockstore.ts': ['src/env-node.ts'],
};
/** The narrow port through which a kernel binding sees the filesystem. */
const FUSE_PORT = new Set(['src/vfs/ops.ts', 'src/meta/types.ts']);

/** Its name resolves from within, too: to whatever was built last, past every layer. */
const PACKAGE = 'tatamifs';

const LINES_WARNING = 500;
const LINES_ERROR = 800;
// Put together at run time so that this file does not find itself.
const LEFTOVER = new RegExp(`\\b(${['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK'].join('|')})\\b`);

/** @param {string} path */
const isTest = (path) => /\.test\.[jt]s$/.test(path);
/**
 * Fakes that the tests of a folder share (src/meta/testing.ts); nothing else may import them.
 * @param {string} path
 */
const isTestSupport = (path) => /^src\/.+\/testing(-[^/]*)?\.ts$/.test(path);

/**
 * Checks a set of files.
 * @param {ReadonlyMap<string, string>} files text by path, relative to the project, with forward slashes
 * @returns {{ errors: Finding[], warnings: Finding[] }}
 */
export function tidy(files) {
  /** @type {Finding[]} */
  const errors = [];
  /** @type {Finding[]} */
  const warnings = [];
  /** @type {Map<string, ts.SourceFile>} */
  const sources = new Map();
  /** @type {Map<string, Import[]>} */
  const imports = new Map();
  for (const [path, text] of files) {
    const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
    sources.set(path, source);
    imports.set(path, importsOf(source));
  }
  const layers = layersOf(imports);

  for (const [path, text] of files) {
    const source = /** @type {ts.SourceFile} */ (sources.get(path));
    const own = /** @type {Import[]} */ (imports.get(path));
    checkLeftovers(path, text, source, errors);
    if (!path.startsWith('src/') || isTest(path) || isTestSupport(path)) continue;
    if (!isShell(path)) checkPurity(path, source, own, errors);
    checkLayers(path, own, layers, errors);
    if (/^src\/catalog\/placement/.test(path)) checkExactMath(path, source, errors);
    const lines = text.split('\n').length - 1;
    const size = {
      path,
      line: 1,
      message: `${lines} lines: split it by concept (at most ${LINES_WARNING}, ${LINES_ERROR} is an error)`,
    };
    if (lines > LINES_ERROR) errors.push(size);
    else if (lines > LINES_WARNING) warnings.push(size);
  }
  return { errors, warnings };
}

/**
 * @param {string} path
 * @param {string} specifier
 */
function resolveImport(path, specifier) {
  if (!specifier.startsWith('.')) return undefined;
  return posix.join(posix.dirname(path), specifier);
}

/**
 * The layer of each file in src/. A file directly in src/ is `base` while all it imports is base, else `root`.
 * @param {ReadonlyMap<string, Import[]>} imports
 * @returns {(path: string) => string}
 */
function layersOf(imports) {
  /** @type {Map<string, string>} */
  const known = new Map();
  /** @param {string} path @returns {string} */
  const layer = (path) => {
    const seen = known.get(path);
    if (seen !== undefined) return seen;
    const parts = path.split('/');
    if (parts[0] === 'bench') return 'bench';
    if (parts[0] !== 'src') return 'outside';
    let result = parts[1] ?? '';
    if (/^src\/env-(node|memory)(\.ts$|\/)/.test(path)) result = 'world';
    else if (/^src\/(node|index|testing)\.ts$/.test(path)) result = 'root';
    else if (parts.length === 2) {
      known.set(path, 'base'); // ends a cycle of files that import each other
      const targets = (imports.get(path) ?? [])
        .map((i) => resolveImport(path, i.specifier))
        .filter((t) => t !== undefined);
      result = targets.every((target) => layer(target) === 'base') ? 'base' : 'root';
    }
    known.set(path, result);
    return result;
  };
  return layer;
}

/**
 * @param {string} path
 * @param {Import[]} imports
 * @param {(path: string) => string} layer
 * @param {Finding[]} errors
 */
function checkLayers(path, imports, layer, errors) {
  const own = layer(path);
  const allowed = MAY_IMPORT[own];
  if (!allowed) {
    errors.push({ path, line: 1, message: `folder ${own} is no layer: see MAY_IMPORT in scripts/tidy.js` });
    return;
  }
  for (const { specifier, line } of imports) {
    if (specifier === PACKAGE || specifier.startsWith(`${PACKAGE}/`)) {
      errors.push({
        path,
        line,
        message: `imports ${specifier}, the package itself: name the file, so that layers show`,
      });
    } else if (/^(\/|#|file:)/.test(specifier)) {
      errors.push({
        path,
        line,
        message: `imports ${specifier}: name the file by a relative path, so that layers show`,
      });
    }
    const target = resolveImport(path, specifier);
    if (target === undefined) continue;
    if (isTestSupport(target)) errors.push({ path, line, message: `imports ${target}, which is for tests only` });
    const theirs = layer(target);
    if (MAY_ALSO_IMPORT[path]?.includes(target)) continue;
    if (allowed.includes(theirs) || (own === 'fuse' && FUSE_PORT.has(target))) continue;
    errors.push({ path, line, message: `${own} must not import ${theirs} (${target}): calls go down only` });
  }
}

/**
 * @param {string} path
 * @param {ts.SourceFile} source
 * @param {Finding[]} errors
 */
function checkExactMath(path, source, errors) {
  walk(source, (node) => {
    if (
      ts.isPropertyAccessExpression(node) &&
      node.expression.getText(source) === 'Math' &&
      INEXACT_MATH.test(node.name.text)
    ) {
      const message = `Math.${node.name.text} may differ between engines: placement is integer arithmetic`;
      errors.push({ path, line: lineOf(source, node), message });
    } else if (
      ts.isBinaryExpression(node) &&
      node.operatorToken.kind === ts.SyntaxKind.AsteriskAsteriskToken &&
      !/^2$|\dn$/.test(node.left.getText(source)) &&
      !/\dn$/.test(node.right.getText(source))
    ) {
      const message = '** on numbers may differ between engines: placement is integer arithmetic';
      errors.push({ path, line: lineOf(source, node), message });
    }
  });
}

/**
 * @param {string} path
 * @param {string} text
 * @param {ts.SourceFile} source
 * @param {Finding[]} errors
 */
function checkLeftovers(path, text, source, errors) {
  text.split('\n').forEach((content, index) => {
    const match = LEFTOVER.exec(content);
    if (match) errors.push({ path, line: index + 1, message: `${match[1]} left: do it, or write an issue` });
  });
  if (!isTest(path) && !path.startsWith('test/')) return;
  walk(source, (node) => {
    if (!ts.isPropertyAccessExpression(node) || !['only', 'skip', 'todo', 'fails'].includes(node.name.text)) return;
    if (!/^(it|test|describe|suite|bench)\b/.test(node.expression.getText(source))) return;
    const message = `${node.getText(source)} left: every test runs (skipIf and runIf may state what a machine lacks)`;
    errors.push({ path, line: lineOf(source, node), message });
  });
}

/**
 * Every .ts and .js file of the project.
 * @param {string} root
 * @returns {Map<string, string>}
 */
export function projectFiles(root) {
  /** @type {Map<string, string>} */
  const files = new Map();
  for (const folder of ['src', 'test', 'scripts', 'bench', 'examples']) {
    for (const entry of readdirSync(join(root, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !/\.[jt]s$/.test(entry.name)) continue;
      const full = join(entry.parentPath, entry.name);
      files.set(full.slice(root.length + 1).replaceAll('\\', '/'), readFileSync(full, 'utf8'));
    }
  }
  return files;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const root = dirname(dirname(fileURLToPath(import.meta.url)));
  const { errors, warnings } = tidy(projectFiles(root));
  for (const { path, line, message } of warnings) console.log(`${path}:${line}: warning: ${message}`);
  for (const { path, line, message } of errors) console.error(`${path}:${line}: error: ${message}`);
  console.log(`tidy: ${errors.length} errors, ${warnings.length} warnings`);
  if (errors.length > 0) process.exitCode = 1;
}
