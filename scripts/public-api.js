// @ts-check
/**
 * `npm run tidy`, second part: what the package's entry points export is documented and can be named.
 *
 * - Each exported item, and each member of an exported class, interface or object type, has a doc comment of its own or
 *   one that it inherits from the class or interface it fulfils. (Constructors are documented by their class.)
 * - A type of ours that a signature mentions is exported by one of the entry points, or a program could hold such a value
 *   but not say so. (What a class inherits counts as its own; the base need not be named.) Members marked `@internal` may mention more: they are no part of what is promised.
 */
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import ts from 'typescript';

/** @typedef {{ path: string, line: number, message: string }} Finding */

/**
 * The sources behind the "exports" of package.json.
 * @param {string} packageText
 */
export function entryPointsOf(packageText) {
  /** @type {unknown} */
  const manifest = JSON.parse(packageText);
  const { exports } = /** @type {{ exports: Record<string, string | { types: string }> }} */ (manifest);
  return Object.values(exports)
    .filter((target) => typeof target === 'object')
    .map(({ types }) => types.replace(/^\.\/dist\//, '').replace(/\.d\.ts$/, '.ts'));
}

/**
 * @param {ts.Program} program
 * @param {readonly string[]} entryPoints as the program names them
 * @returns {Finding[]} sorted by place, each once
 */
export function checkPublicApi(program, entryPoints) {
  const checker = program.getTypeChecker();
  const exported = new Set(entryPoints.flatMap((entry) => exportsOf(program, checker, entry)));
  /** @type {Map<string, Finding>} */
  const findings = new Map();
  const root = program.getCurrentDirectory();
  /** @param {ts.Node} node @param {string} message */
  const report = (node, message) => {
    const source = node.getSourceFile();
    const line = source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1;
    const path = relative(root, source.fileName);
    findings.set(`${path}:${line}:${message}`, { path, line, message });
  };
  /** @param {ts.Symbol} symbol */
  const ownDeclarations = (symbol) => (symbol.declarations ?? []).filter((node) => isOwn(program, node));

  /** @param {ts.Symbol} symbol @param {string} name */
  const checkDocumented = (symbol, name) => {
    const [first] = ownDeclarations(symbol);
    if (first === undefined || symbol.getDocumentationComment(checker).length > 0) return;
    if (symbol.getJsDocTags(checker).some((tag) => tag.name === 'internal')) return;
    report(first, `${name} is public and has no doc comment`);
  };

  /** @param {ts.Node} declaration @param {string} name */
  const checkNameable = (declaration, name) => {
    for (const mentioned of typesMentionedBy(declaration)) {
      const found = checker.getSymbolAtLocation(mentioned);
      if (found === undefined) continue;
      const symbol = resolved(checker, found);
      const isType = (symbol.flags & (ts.SymbolFlags.Type & ~ts.SymbolFlags.TypeParameter)) !== 0;
      const own = ownDeclarations(symbol);
      if (!isType || exported.has(symbol) || own.length === 0 || own.some(isInternal)) continue;
      report(mentioned, `${name} mentions ${mentioned.getText()}, which no entry point exports`);
    }
  };

  for (const symbol of exported) {
    const name = symbol.getName();
    checkDocumented(symbol, name);
    for (const declaration of ownDeclarations(symbol)) {
      if (isInternal(declaration)) continue;
      if (!isContainer(declaration)) {
        checkNameable(declaration, name);
        for (const member of literalMembersOf(declaration)) {
          const inner = checker.getSymbolAtLocation(member.name);
          if (inner !== undefined) checkDocumented(inner, `${name}.${member.name.getText()}`);
        }
      }
    }
    for (const member of membersOf(checker, symbol)) {
      const declarations = ownDeclarations(member).filter((node) => !isHidden(node));
      if (declarations.length === 0) continue;
      const memberName = `${ownerName(declarations[0], name)}.${shownName(member)}`;
      if (shownName(member) !== 'constructor') checkDocumented(member, memberName);
      // An overload's mark holds for all.
      if (declarations.some((node) => isInternal(node) || isInternal(node.parent))) continue;
      for (const declaration of declarations) checkNameable(declaration, memberName);
    }
  }
  return [...findings.values()].sort((a, b) => (a.path === b.path ? a.line - b.line : a.path < b.path ? -1 : 1));
}

/**
 * @param {ts.Program} program
 * @param {ts.TypeChecker} checker
 * @param {string} entry
 * @returns {ts.Symbol[]} what stands behind the exported names
 */
function exportsOf(program, checker, entry) {
  const source = program.getSourceFile(entry);
  const module = source && checker.getSymbolAtLocation(source);
  if (module === undefined) throw new Error(`${entry} is no module of this program`);
  return checker.getExportsOfModule(module).map((symbol) => resolved(checker, symbol));
}

/**
 * @param {ts.TypeChecker} checker
 * @param {ts.Symbol} symbol
 */
function resolved(checker, symbol) {
  return (symbol.flags & ts.SymbolFlags.Alias) !== 0 ? checker.getAliasedSymbol(symbol) : symbol;
}

/**
 * @param {ts.Program} program
 * @param {ts.Node} node
 */
function isOwn(program, node) {
  const source = node.getSourceFile();
  return !source.isDeclarationFile && !program.isSourceFileFromExternalLibrary(source);
}

/** @param {ts.Node} node */
const isContainer = (node) => ts.isClassDeclaration(node) || ts.isInterfaceDeclaration(node);

/**
 * Members of a class (static ones and its constructor, too) or interface, inherited ones included.
 * @param {ts.TypeChecker} checker
 * @param {ts.Symbol} symbol
 * @returns {ts.Symbol[]}
 */
function membersOf(checker, symbol) {
  if (!(symbol.declarations ?? []).some(isContainer)) return [];
  const instance = checker.getDeclaredTypeOfSymbol(symbol);
  const members = [...checker.getPropertiesOfType(instance)];
  if ((symbol.flags & ts.SymbolFlags.Class) !== 0) {
    const statics = checker.getTypeOfSymbol(symbol);
    members.push(...checker.getPropertiesOfType(statics).filter((member) => member.getName() !== 'prototype'));
    const constructor = symbol.members?.get(ts.InternalSymbolName.Constructor);
    if (constructor !== undefined) members.push(constructor);
  }
  return members;
}

/**
 * The class or interface that declares a member.
 * @param {ts.Node | undefined} member
 * @param {string} fallback
 */
function ownerName(member, fallback) {
  const owner = member?.parent;
  return owner !== undefined && (ts.isClassDeclaration(owner) || ts.isInterfaceDeclaration(owner))
    ? (owner.name?.text ?? fallback)
    : fallback;
}

/** @param {ts.Symbol} member */
function shownName(member) {
  if (member.escapedName === ts.InternalSymbolName.Constructor) return 'constructor';
  const declaration = member.declarations?.[0];
  const name = declaration && ts.getNameOfDeclaration(declaration);
  return name?.getText() ?? member.getName();
}

/**
 * Not visible from outside.
 * @param {ts.Node} node
 */
function isHidden(node) {
  const name = ts.getNameOfDeclaration(/** @type {ts.Declaration} */ (node));
  if (name !== undefined && ts.isPrivateIdentifier(name)) return true;
  return (
    ts.canHaveModifiers(node) && (ts.getModifiers(node) ?? []).some((m) => m.kind === ts.SyntaxKind.PrivateKeyword)
  );
}

/** @param {ts.Node} node */
function isInternal(node) {
  return ts.getJSDocTags(node).some((tag) => tag.tagName.text === 'internal');
}

/**
 * Properties and methods of the object types that a type alias is made of. (Those within parameters are documented by
 * what they are parameters of.)
 * @param {ts.Node} declaration
 * @returns {(ts.PropertySignature | ts.MethodSignature)[]}
 */
function literalMembersOf(declaration) {
  /** @type {(ts.PropertySignature | ts.MethodSignature)[]} */
  const members = [];
  /** @param {ts.TypeNode} type */
  const visit = (type) => {
    if (ts.isParenthesizedTypeNode(type)) visit(type.type);
    else if (ts.isUnionTypeNode(type) || ts.isIntersectionTypeNode(type)) type.types.forEach(visit);
    else if (ts.isTypeLiteralNode(type)) {
      members.push(...type.members.filter((m) => ts.isPropertySignature(m) || ts.isMethodSignature(m)));
    }
  };
  if (ts.isTypeAliasDeclaration(declaration)) visit(declaration.type);
  return members;
}

/**
 * Names of types in a signature: of its parameters, result and bounds; bodies and initial values say nothing of it.
 * @param {ts.Node} declaration
 * @returns {ts.Node[]}
 */
function typesMentionedBy(declaration) {
  /** @type {ts.Node[]} */
  const found = [];
  /** @param {ts.Node} node */
  const visit = (node) => {
    if (ts.isBlock(node)) return;
    if (ts.isTypeReferenceNode(node)) found.push(node.typeName);
    else if (ts.isExpression(node) && !ts.isIdentifier(node)) return;
    ts.forEachChild(node, visit);
  };
  visit(declaration);
  return found;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const root = dirname(dirname(fileURLToPath(import.meta.url)));
  const options = ts.getParsedCommandLineOfConfigFile(join(root, 'tsconfig.json'), undefined, {
    ...ts.sys,
    onUnRecoverableConfigFileDiagnostic: (problem) => {
      throw new Error(ts.flattenDiagnosticMessageText(problem.messageText, '\n'));
    },
  })?.options;
  if (options === undefined) throw new Error('tsconfig.json cannot be read');
  const entryPoints = entryPointsOf(readFileSync(join(root, 'package.json'), 'utf8'));
  const entries = entryPoints.map((entry) => join(root, entry));
  const host = { ...ts.createCompilerHost(options), getCurrentDirectory: () => root };
  const findings = checkPublicApi(ts.createProgram(entries, options, host), entries);
  for (const { path, line, message } of findings) console.error(`${path}:${line}: error: ${message}`);
  console.log(`public API: ${findings.length} errors`);
  if (findings.length > 0) process.exitCode = 1;
}
