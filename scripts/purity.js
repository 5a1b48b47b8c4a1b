// @ts-check
/**
 * Purity: only the shells listed here may touch clock, chance, timers, disk or sockets directly. All else goes through
 * src/env.ts; otherwise the simulator would not be the same program, nor replay from a seed.
 *
 * Names are judged, not what they stand for at run time, so nothing may be done to a dangerous name that would hide what
 * becomes of it: no alias, no destructuring, no computed member. What is allowed is listed, not what is forbidden,
 * wherever the list of the forbidden has no end.
 */
import { isBuiltin } from 'node:module';
import ts from 'typescript';
import { lineOf, walk } from './ts-source.js';

/** @typedef {{ path: string, line: number, message: string }} Finding */

/** Files that may reach the outside directly. Keep this list short: each entry is code that no simulation covers. */
const SHELLS = [
  /^src\/env-node\.ts$/,
  /^src\/env-node\//,
  /^src\/net\/transport-node(-connection|-udp)?\.ts$/,
  /^src\/fuse\/(device|device-poll|mount|mount-point|native|thread-signals|tools)\.ts$/,
  /^src\/cli\//,
  /^src\/(index|testing)\.ts$/,
];

/** @param {string} path */
export const isShell = (path) => SHELLS.some((shell) => shell.test(path));

/** Builtin modules that compute and do not reach out. */
const PURE_BUILTINS = new Set(
  ['assert', 'async_hooks', 'buffer', 'crypto', 'events', 'path', 'path/posix', 'stream', 'util', 'util/types'].map(
    (name) => `node:${name}`,
  ),
);
/** Packages that compute and do not reach out, as far as they are used (p-queue: no intervals, no timeouts). */
const PURE_PACKAGES = new Set([
  ...['@napi-rs/blake-hash', 'msgpackr', 'p-queue', 'xxhash-wasm', 'zod'],
  ...['interface-store', 'multiformats/cid', 'multiformats/hashes/digest'],
]);
/** What of node:crypto yields the same for the same input. It is imported by name, so that this can be seen. */
const PURE_CRYPTO = new Set(['createHash', 'createHmac', 'hkdfSync', 'timingSafeEqual']);

/** Globals that no pure file mentions in any way. */
const IMPURE_GLOBALS = new Set([
  ...['setTimeout', 'setInterval', 'setImmediate', 'clearTimeout', 'clearInterval', 'clearImmediate'],
  ...['process', 'performance', 'crypto', 'fetch', 'WebSocket', 'EventSource', 'BroadcastChannel', 'MessageChannel'],
  ...['console', 'navigator', 'Intl', 'Temporal', 'eval', 'Function', 'globalThis'],
]);
/** Names of the global object that may also be those of a local variable. */
const GLOBAL_OBJECTS = new Set(['global', 'self', 'window']);
/**
 * Globals of which only some members are pure: mentioned as `Name.member` only (or to the right of instanceof).
 * @type {ReadonlyMap<string, (member: string) => boolean>}
 */
const MIXED_GLOBALS = new Map([
  ['Date', (/** @type {string} */ member) => member === 'UTC'],
  ['Math', (/** @type {string} */ member) => member !== 'random'],
  ['AbortSignal', (/** @type {string} */ member) => member === 'any' || member === 'abort'],
  ['Atomics', (/** @type {string} */ member) => !member.startsWith('wait')],
]);

/**
 * @param {string} path
 * @param {ts.SourceFile} source
 * @param {import('./ts-source.js').Import[]} imports
 * @param {Finding[]} errors
 */
export function checkPurity(path, source, imports, errors) {
  const why = 'go through src/env.ts, so that a simulated world can stand behind it';
  for (const { specifier, typeOnly, names, whole, line } of imports) {
    if (typeOnly || /^\.{1,2}\//.test(specifier)) continue;
    const name = isBuiltin(specifier) && !specifier.startsWith('node:') ? `node:${specifier}` : specifier;
    if (!PURE_BUILTINS.has(name) && !PURE_PACKAGES.has(name)) {
      const list = name.startsWith('node:') ? 'PURE_BUILTINS' : 'PURE_PACKAGES';
      errors.push({ path, line, message: `imports ${name}: ${why} (or, if it only computes, add it to ${list})` });
    } else if (name === 'node:crypto') {
      const impure = names.filter((n) => !PURE_CRYPTO.has(n));
      if (impure.length > 0) errors.push({ path, line, message: `imports ${impure.join(', ')}: ${why}` });
      if (whole) errors.push({ path, line, message: 'imports all of node:crypto: import what is needed by name' });
    }
  }
  const bindings = bindingsOf(source);
  walk(source, (node) => {
    const used = ts.isIdentifier(node) && isFreeReference(node) ? impureUse(node, bindings) : undefined;
    if (used !== undefined) errors.push({ path, line: lineOf(source, node), message: `uses ${used}: ${why}` });
  });
}

/**
 * @param {ts.Identifier} node a value in scope
 * @param {ReadonlyMap<ts.Node, ReadonlySet<string>>} bindings
 * @returns {string | undefined} what of the outside is reached through it
 */
function impureUse(node, bindings) {
  const { text, parent } = node;
  if (IMPURE_GLOBALS.has(text)) return text;
  if (GLOBAL_OBJECTS.has(text)) return isLocal(node, bindings) ? undefined : text;
  const isPure = MIXED_GLOBALS.get(text);
  if (isPure === undefined) return undefined;
  if (ts.isPropertyAccessExpression(parent)) {
    return isPure(parent.name.text) ? undefined : `${text}.${parent.name.text}`;
  }
  if (ts.isBinaryExpression(parent) && parent.right === node) {
    if (parent.operatorToken.kind === ts.SyntaxKind.InstanceOfKeyword) return undefined;
  }
  if (text === 'Date' && ts.isNewExpression(parent) && parent.expression === node) {
    const first = parent.arguments?.[0];
    return first !== undefined && !ts.isSpreadElement(first) ? undefined : 'new Date() without a time';
  }
  return `${text} other than by a plain member`;
}

/**
 * Whether an identifier stands for a value in scope, rather than naming a member, a key, a parameter or a type's part.
 * (A local variable with the name of a global counts too: call it something else.)
 * @param {ts.Identifier} node
 */
function isFreeReference(node) {
  const parent = node.parent;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isQualifiedName(parent) || ts.isTypeReferenceNode(parent)) return false;
  if (ts.isPropertyAssignment(parent)) return parent.initializer === node;
  if (ts.isBindingElement(parent) && parent.propertyName === node) return false;
  if (ts.isImportSpecifier(parent) || ts.isExportSpecifier(parent)) return false;
  const named = /** @type {{ name?: ts.Node }} */ (/** @type {unknown} */ (parent));
  return named.name !== node || ts.isShorthandPropertyAssignment(parent);
}

/**
 * The names that variables, parameters and imports have, by the function (or file) that declares them.
 * @param {ts.SourceFile} source
 */
function bindingsOf(source) {
  /** @type {Map<ts.Node, Set<string>>} */
  const bindings = new Map();
  walk(source, (node) => {
    const declares =
      ts.isVariableDeclaration(node) || ts.isParameter(node) || ts.isBindingElement(node) || ts.isImportSpecifier(node);
    if (!declares || !ts.isIdentifier(node.name)) return;
    const scope = ts.findAncestor(node.parent, isScope) ?? source;
    bindings.set(scope, (bindings.get(scope) ?? new Set()).add(node.name.text));
  });
  return bindings;
}

/** @param {ts.Node} node */
const isScope = (node) => ts.isFunctionLike(node) || ts.isSourceFile(node);

/**
 * @param {ts.Identifier} node
 * @param {ReadonlyMap<ts.Node, ReadonlySet<string>>} bindings
 */
function isLocal(node, bindings) {
  return ts.findAncestor(node, (scope) => bindings.get(scope)?.has(node.text) === true) !== undefined;
}
