// @ts-check
/** What the checks of scripts/tidy.js look at: the parts of one parsed source file, without types. */
import ts from 'typescript';

/**
 * `names` are those imported by name, types excepted; `whole`: all of the module can be reached (a namespace, a default
 * import, `export *`, import()).
 * @typedef {{ specifier: string, typeOnly: boolean, names: string[], whole: boolean, line: number }} Import
 */

/**
 * @param {ts.SourceFile} source
 * @param {ts.Node} node
 */
export function lineOf(source, node) {
  return source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1;
}

/**
 * @param {ts.Node} node
 * @param {(node: ts.Node) => void} visit
 */
export function walk(node, visit) {
  visit(node);
  ts.forEachChild(node, (child) => walk(child, visit));
}

/**
 * Static and dynamic imports and re-exports.
 * @param {ts.SourceFile} source
 * @returns {Import[]}
 */
export function importsOf(source) {
  /** @type {Import[]} */
  const found = [];
  walk(source, (node) => {
    const line = lineOf(source, node);
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
      const clause = node.importClause;
      const bindings = clause?.namedBindings;
      const elements = bindings && ts.isNamedImports(bindings) ? bindings.elements : undefined;
      const typeOnly =
        clause !== undefined &&
        (clause.isTypeOnly ||
          (!clause.name && elements !== undefined && elements.length > 0 && elements.every((e) => e.isTypeOnly)));
      const names = namesOf(elements ?? []);
      const whole = clause?.name !== undefined || (bindings !== undefined && ts.isNamespaceImport(bindings));
      found.push({ specifier: node.moduleSpecifier.text, typeOnly, names, whole, line });
    } else if (ts.isExportDeclaration(node) && node.moduleSpecifier && ts.isStringLiteral(node.moduleSpecifier)) {
      const clause = node.exportClause;
      const elements = clause && ts.isNamedExports(clause) ? clause.elements : undefined;
      const names = namesOf(elements ?? []);
      const whole = elements === undefined;
      found.push({ specifier: node.moduleSpecifier.text, typeOnly: node.isTypeOnly, names, whole, line });
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const argument = node.arguments[0];
      const specifier = argument && ts.isStringLiteralLike(argument) ? argument.text : '(computed)';
      found.push({ specifier, typeOnly: false, names: [], whole: true, line });
    } else if (ts.isExternalModuleReference(node) && ts.isStringLiteralLike(node.expression)) {
      found.push({ specifier: node.expression.text, typeOnly: false, names: [], whole: true, line });
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      const literal = node.argument.literal;
      if (ts.isStringLiteral(literal)) {
        found.push({ specifier: literal.text, typeOnly: true, names: [], whole: false, line });
      }
    }
  });
  return found;
}

/** @param {readonly (ts.ImportSpecifier | ts.ExportSpecifier)[]} elements */
function namesOf(elements) {
  return elements.filter((e) => !e.isTypeOnly).map((e) => (e.propertyName ?? e.name).text);
}
