import { describe, expect, it } from 'vitest';
import { tidy } from './tidy.js';

function errorsOf(path: string, text: string, others: Record<string, string> = {}): string[] {
  return tidy(new Map(Object.entries({ ...others, [path]: text }))).errors.map((e) => `${e.line} ${e.message}`);
}

describe('purity', () => {
  it.each([
    `import { readFile } from 'node:fs/promises';`,
    `import fs from 'fs';`,
    `export { x } from 'node:net';`,
    `const os = await import('node:os');`,
    `import { Level } from 'level';`,
    `import { createHash, randomBytes } from 'node:crypto';`,
    `import * as c from 'node:crypto';`,
    `import c from 'node:crypto';`,
    `import { default as c } from 'node:crypto';`,
    `export * from 'node:crypto';`,
    `export { randomInt } from 'node:crypto';`,
    `const c = await import('node:crypto');`,
    `import { pino } from 'pino';`,
    `import something from 'never-heard-of';`,
    `const m = await import(name);`,
    `import fs = require('node:fs');`,
    `crypto.getRandomValues(new Uint8Array(3));`,
    `const t = Date.now();`,
    `const t = new Date();`,
    `const t = Date();`,
    `const t = performance.now();`,
    `const t = process.hrtime.bigint();`,
    `const x = Math.random();`,
    `setTimeout(() => {}, 1);`,
    `globalThis.setTimeout(() => {}, 1);`,
    `const later = setImmediate;`,
    `const s = AbortSignal.timeout(5);`,
    `f({ setTimeout });`,
    `const { now } = Date;`,
    `Date['now']();`,
    `(Date).now();`,
    `const D = Date;`,
    `class Later extends Date {}`,
    `const t = new Date(...[]);`,
    `const { random } = Math;`,
    `Math['random']();`,
    `globalThis['setTimeout'](f);`,
    `const g = globalThis; g.setTimeout(f);`,
    `global.setTimeout(f);`,
    `self.setTimeout(f);`,
    `(0, eval)('later');`,
    `new Intl.DateTimeFormat().format();`,
    `console.log(1);`,
  ])('refuses %s', (text) => {
    expect(errorsOf('src/meta/x.ts', text)).toHaveLength(1);
  });

  it.each([
    `import { createHash, timingSafeEqual } from 'node:crypto';`,
    `import { Buffer } from 'node:buffer';`,
    `import type { Stats } from 'node:fs';`,
    `// Date.now and setTimeout are forbidden here`,
    `const message = 'Math.random()';`,
    `const when = new Date(5); const is: boolean = x instanceof Date; const t: Date = new Date(Date.UTC(2020, 1));`,
    `const m = Math.max(1, 2) + Math.imul(3, 4); const s = AbortSignal.any([a, b]); s.timeout();`,
    `function f({ self }) { return () => self.id; } class A { self = 1; }`,
    `const { process: p, Date: d } = options;`,
    `import PQueue from 'p-queue'; import { z } from 'zod';`,
    `import type { Logger } from 'pino';`,
    `queueMicrotask(() => {});`,
    `env.clock.setTimeout(3); options.process = 1; const o = { fetch: 2 };`,
    `interface A { performance: number; fetch(): void }`,
  ])('allows %s', (text) => {
    expect(errorsOf('src/meta/x.ts', text)).toEqual([]);
  });

  it('binds neither shells nor tests', () => {
    const text = `import 'node:fs'; setTimeout(() => {}, Date.now());`;
    for (const path of [
      'src/env-node.ts',
      'src/net/transport-node.ts',
      'src/fuse/device.ts',
      'src/fuse/mount.ts',
      'src/cli/up.ts',
      'src/meta/x.test.ts',
      'test/sim/clock.ts',
    ]) {
      expect(errorsOf(path, text)).toEqual([]);
    }
  });

  it('binds what stands beside the shells', () => {
    for (const path of ['src/fuse/mount-table.ts', 'src/fuse/device-model.ts', 'src/net/a-node.ts', 'src/node.ts']) {
      expect(errorsOf(path, `import 'node:fs';`), path).toHaveLength(1);
    }
  });
});

describe('layers', () => {
  it.each([
    ['src/net/a.ts', '../catalog/b.ts'],
    ['src/meta/a.ts', '../blocks/b.ts'],
    ['src/blocks/a.ts', '../meta/types.ts'],
    ['src/vfs/a.ts', '../upkeep/b.ts'],
    ['src/fuse/a.ts', '../vfs/vfs.ts'],
    ['src/fuse/a.ts', '../net/types.ts'],
    ['src/vfs/a.ts', '../node.ts'],
    ['src/vfs/a.ts', '../env-node.ts'],
    ['src/node.ts', './cli/main.ts'],
    ['src/newlayer/a.ts', '../env.ts'],
    ['src/node.ts', '../bench/index.ts'],
    ['src/vfs/a.ts', '../../test/sim/world.ts'],
  ])('%s must not import %s', (path, target) => {
    expect(errorsOf(path, `import type { x } from '${target}';`)).toHaveLength(1);
  });

  it.each([
    ['src/net/a.ts', '../env.ts'],
    ['src/meta/a.ts', '../catalog/types.ts'],
    ['src/vfs/a.ts', '../blocks/types.ts'],
    ['src/vfs/a.ts', '../meta/types.ts'],
    ['src/fuse/a.ts', '../vfs/ops.ts'],
    ['src/fuse/a.ts', '../meta/types.ts'],
    ['src/env-node.ts', './net/transport-node.ts'],
    ['src/node.ts', './env-node.ts'],
    ['src/cli/a.ts', '../node.ts'],
    ['src/cli/a.ts', '../../bench/index.ts'],
    ['src/meta/a.test.ts', '../node.ts'],
  ])('%s may import %s', (path, target) => {
    expect(errorsOf(path, `import { x } from '${target}';`)).toEqual([]);
  });

  it.each(['tatamifs', 'tatamifs/blocks', '#internal', '/srv/x.ts', 'file:///srv/x.ts'])(
    'nor go round by %s',
    (name) => {
      for (const path of ['src/net/a.ts', 'src/cli/a.ts', 'src/index.ts']) {
        expect(errorsOf(path, `import { connect } from '${name}';`).join()).toContain('so that layers show');
      }
      expect(errorsOf('src/net/a.ts', `/** import { connect } from 'tatamifs'; */`)).toEqual([]);
    },
  );

  it('keeps fakes for tests to the tests', () => {
    const text = `import { x } from './testing.ts';`;
    expect(errorsOf('src/meta/a.ts', text)).toHaveLength(1);
    expect(errorsOf('src/meta/a.test.ts', text)).toEqual([]);
    expect(errorsOf('src/meta/testing.ts', `import '../env-memory.ts';`)).toEqual([]);
  });

  it('takes a file in src/ for base only while it imports nothing but base', () => {
    const user = `import { x } from '../helper.ts';`;
    expect(errorsOf('src/net/a.ts', user, { 'src/helper.ts': `import './errors.ts';` })).toEqual([]);
    expect(errorsOf('src/net/a.ts', user, { 'src/helper.ts': `import './vfs/vfs.ts';` })).toEqual([
      '1 net must not import root (src/helper.ts): calls go down only',
    ]);
  });
});

describe('placement', () => {
  it('refuses inexact arithmetic there and only there', () => {
    const text =
      'export const a = Math.log(2);\nexport const b = 3 ** 0.5;\nexport const c = Math.floor(2 / 3) + Math.imul(1, 2);';
    expect(errorsOf('src/catalog/placement.ts', text)).toHaveLength(2);
    expect(errorsOf('src/blocks/client.ts', text)).toEqual([]);
    expect(errorsOf('src/catalog/placement-table.ts', 'export const a = 2n ** 44n + BigInt(2 ** bits);')).toEqual([]);
  });
});

describe('leftovers', () => {
  it('finds focused and skipped tests and notes to self', () => {
    const focused = ['it', 'only'].join('.');
    const skipped = ['describe', 'skip'].join('.');
    const note = ['TO', 'DO'].join('');
    expect(errorsOf('src/a.test.ts', `${focused}('x', () => {});\n${skipped}('y', () => {});`)).toHaveLength(2);
    expect(errorsOf('src/a.test.ts', `it.skipIf(lacking)('x', () => {});`)).toEqual([]);
    expect(errorsOf('src/a.ts', `// ${note}: later`)).toHaveLength(1);
  });
});

describe('size', () => {
  it('warns over 500 lines and refuses over 800, tests excepted', () => {
    const check = (path: string, lines: number) => tidy(new Map([[path, '\n'.repeat(lines)]]));
    expect(check('src/a.ts', 500)).toEqual({ errors: [], warnings: [] });
    expect(check('src/a.ts', 501).warnings).toHaveLength(1);
    expect(check('src/a.ts', 801).errors).toHaveLength(1);
    expect(check('src/a.test.ts', 801)).toEqual({ errors: [], warnings: [] });
  });
});
