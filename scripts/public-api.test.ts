import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { checkPublicApi, entryPointsOf } from './public-api.js';

const OPTIONS: ts.CompilerOptions = { noLib: true, module: ts.ModuleKind.NodeNext, allowImportingTsExtensions: true };

/** What is wrong with a package whose entry points are `entries`. */
function problems(files: Readonly<Record<string, string>>, entries = ['src/index.ts']): string[] {
  const root = '/package';
  const texts = new Map(Object.entries(files).map(([path, text]) => [`${root}/${path}`, text]));
  const host: ts.CompilerHost = {
    fileExists: (path) => texts.has(path),
    readFile: (path) => texts.get(path),
    getSourceFile(path, languageVersion) {
      const text = texts.get(path);
      return text === undefined ? undefined : ts.createSourceFile(path, text, languageVersion, true);
    },
    getDefaultLibFileName: () => 'lib.d.ts',
    writeFile: () => undefined,
    getCurrentDirectory: () => root,
    getCanonicalFileName: (name) => name,
    useCaseSensitiveFileNames: () => true,
    getNewLine: () => '\n',
  };
  const paths = entries.map((path) => `${root}/${path}`);
  const program = ts.createProgram(paths, OPTIONS, host);
  return checkPublicApi(program, paths).map(({ path, line, message }) => `${path}:${line} ${message}`);
}

const undocumented = (name: string, line = 1, path = 'src/index.ts') =>
  `${path}:${line} ${name} is public and has no doc comment`;

it('takes the entry points from package.json', () => {
  const text = JSON.stringify({
    exports: {
      '.': { types: './dist/src/index.d.ts', default: './dist/src/index.js' },
      './package.json': './package.json',
    },
  });
  expect(entryPointsOf(text)).toEqual(['src/index.ts']);
});

describe('what is exported', () => {
  it.each([
    ['export function f(): void {}', 'f'],
    ['export const f = 1;', 'f'],
    ['export type F = 1;', 'F'],
    ['export interface F {}', 'F'],
    ['export class F {}', 'F'],
    ['// a comment, but no doc comment\nexport const f = 1;', 'f', 2],
    ['/** */ export const f = 1;', 'f'],
  ])('needs a doc comment: %s', (text, name, line = 1) => {
    expect(problems({ 'src/index.ts': text })).toEqual([undocumented(name, line)]);
  });

  it('is looked for where it is declared', () => {
    const files = {
      'src/index.ts': `export { one as two } from './deep.ts'; export * from './wide.ts';`,
      'src/deep.ts': `const hidden = 1;\nexport const one = 1;\nexport const other = hidden;`,
      'src/wide.ts': `export const wide = 1;`,
    };
    expect(problems(files)).toEqual([undocumented('one', 2, 'src/deep.ts'), undocumented('wide', 1, 'src/wide.ts')]);
  });

  it('may come from several entry points, and counts once', () => {
    const files = {
      'src/index.ts': `export { one } from './deep.ts';`,
      'src/more.ts': `export { one } from './deep.ts'; export const two = 2;`,
      'src/deep.ts': `export const one = 1;`,
    };
    expect(problems(files, ['src/index.ts', 'src/more.ts'])).toEqual([
      undocumented('one', 1, 'src/deep.ts'),
      undocumented('two', 1, 'src/more.ts'),
    ]);
  });

  it('says so of an entry point that is not there', () => {
    expect(() => problems({}, ['src/index.ts'])).toThrow(/no module/);
  });
});

describe('members', () => {
  it.each([
    ['interface', 'x: 1', 'x'],
    ['interface', 'x(): void', 'x'],
    ['class', 'x = 1', 'x'],
    ['class', 'readonly x: 1 = 1', 'x'],
    ['class', 'x(): void {}', 'x'],
    ['class', 'static x(): void {}', 'x'],
    ['class', 'get x(): 1 { return 1; }', 'x'],
    ['class', 'protected x = 1', 'x'],
  ])('of an exported %s need one: %s', (kind, member, name) => {
    expect(problems({ 'src/index.ts': `/** F. */\nexport ${kind} F {\n  ${member}\n}` })).toEqual([
      undocumented(`F.${name}`, 3),
    ]);
  });

  it.each(['#x = 1', 'private x = 1', 'private constructor() {}', 'constructor() {}', '/** Yes. */ x = 1'])(
    'do not when hidden or documented: %s',
    (member) => {
      expect(problems({ 'src/index.ts': `/** F. */\nexport class F {\n  ${member}\n}` })).toEqual([]);
    },
  );

  it('of an object type do, also in unions', () => {
    const text = `/** F. */\nexport type F = ({ a: 1 } | {\n /** B. */ b: 1 }) & {\n c(): void };`;
    expect(problems({ 'src/index.ts': text })).toEqual([undocumented('F.a', 2), undocumented('F.c', 4)]);
  });

  it('inherit from the interface or class that they fulfil, and are told once', () => {
    const text = `interface I {\n /** A. */ a(): void; b(): void }
      class Base { c(): void {} }
      /** F. */ export class F extends Base implements I { a(): void {} b(): void {} }
      /** G. */ export class G extends Base {}`;
    expect(problems({ 'src/index.ts': text })).toEqual([undocumented('Base.c', 3), undocumented('F.b', 4)]);
  });

  it('need one comment for all overloads', () => {
    const text = `/** F. */ export class F {\n /** A. */ a(x: 1): 1;\n a(x: 2): 2;\n a(x: 1 | 2): 1 | 2 { return x; } }`;
    expect(problems({ 'src/index.ts': text })).toEqual([]);
  });
});

describe('types that signatures mention', () => {
  const files = (text: string) => ({
    'src/index.ts': `import type { Hidden } from './hidden.ts';\n${text}`,
    'src/hidden.ts': `export interface Hidden { x: 1 }`,
  });

  it.each([
    '/** F. */ export function f(x: Hidden): void {}',
    '/** F. */ export function f(): Hidden[] { return []; }',
    '/** F. */ export function f(x: { readonly y?: Hidden }): void {}',
    '/** F. */ export function f<T extends Hidden>(x: T): void {}',
    '/** F. */ export type F = Hidden | 1;',
    '/** F. */ export class F {\n /** A. */ a?: Hidden }',
    '/** F. */ export class F { constructor(x: Hidden) {} }',
  ])('are exported, too: %s', (text) => {
    const found = problems(files(text)).filter((problem) => !problem.startsWith('src/hidden.ts'));
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(/mentions Hidden, which no entry point exports/);
  });

  it.each([
    '/** F. */ export function f(): void { const x: Hidden = { x: 1 }; }',
    '/** F. */ export class F { #x?: Hidden; private y?: Hidden; }',
    '/** F. */ export class F {\n /** @internal */ a?: Hidden }',
    '/** F. */ export class F {\n /** Made by us.\n * @internal */ constructor(x: Hidden) {} }',
    '/** @internal */ export interface F {\n /** A. */ a: Hidden }',
    '/** F. */ export function f<T>(x: T): T { return x; }',
    '/** Own. @internal */ interface Own {}\n/** F. */ export type F = Own;',
  ])('unless nobody needs to name them: %s', (text) => {
    expect(problems(files(text))).toEqual([]);
  });

  it('may be exported by another entry point', () => {
    const more = { 'src/more.ts': `export type { Hidden } from './hidden.ts';` };
    const text = '/** F. */ export function f(x: Hidden): void {}';
    expect(problems({ ...files(text), ...more }, ['src/index.ts', 'src/more.ts'])).toEqual([
      undocumented('Hidden', 1, 'src/hidden.ts'),
      undocumented('Hidden.x', 1, 'src/hidden.ts'),
    ]);
  });
});
