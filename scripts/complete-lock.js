// @ts-check
/**
 * Completes package-lock.json with the optional packages for other platforms. npm leaves out those that the registry
 * at hand does not have, and `npm ci` then refuses the lock file on every machine. Run it after `npm install`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const path = join(dirname(dirname(fileURLToPath(import.meta.url))), 'package-lock.json');
/** @typedef {{ version: string, optionalDependencies?: Record<string, string>, [field: string]: unknown }} Entry */
/** @type {unknown} */
const parsed = JSON.parse(readFileSync(path, 'utf8'));
const lock = /** @type {{ packages: Record<string, Entry> }} */ (parsed);
/** Packages whose binaries are packages of their own, named OWNER-OS-CPU[-ABI]. */
const OWNERS = ['@napi-rs/blake-hash', 'msgpackr-extract'];
/** @type {Readonly<Record<string, string>>} */
const LIBC = { gnu: 'glibc', gnueabihf: 'glibc', musl: 'musl' };

for (const owner of OWNERS) {
  const { optionalDependencies = {} } = lock.packages[`node_modules/${owner}`] ?? {};
  for (const [name, version] of Object.entries(optionalDependencies)) {
    const key = `node_modules/${name}`;
    if (lock.packages[key] !== undefined) continue;
    const prefix = (owner.split('/').at(-1) ?? owner).length + 1;
    const [os, cpu, abi = ''] = (name.split('/').at(-1) ?? '').slice(prefix).split('-');
    const libc = LIBC[abi] === undefined ? {} : { libc: [LIBC[abi]] };
    lock.packages[key] = { version, cpu: [cpu], ...libc, license: 'MIT', optional: true, os: [os] };
  }
}
const sorted = Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1));
writeFileSync(path, `${JSON.stringify({ ...lock, packages: Object.fromEntries(sorted) }, undefined, 2)}\n`);
