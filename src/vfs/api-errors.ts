/** Errors as node:fs makes them, so that programs written for it understand ours. */
import { getSystemErrorMap } from 'node:util';
import { TatamiError } from '../errors.ts';

/** What calls of a {@link FileSystem} reject with: the form of node:fs' errors, with ours as `cause`. */
export interface NodeFsError extends Error {
  /** Name of the condition: `ENOENT`. */
  readonly code: string;
  /** Its number, negative, as in node:fs. */
  readonly errno?: number;
  /** What was tried: `open`. */
  readonly syscall?: string;
  /** Of what. */
  readonly path?: string;
  /** Second path of a call that takes two. */
  readonly dest?: string;
}

const CONDITIONS = new Map([...getSystemErrorMap()].map(([errno, [name, text]]) => [name, { errno, text }]));
/** Linux names that libuv's table lacks. */
CONDITIONS.set('ENODATA', { errno: -61, text: 'no data available' });
CONDITIONS.set('EOPNOTSUPP', { errno: -95, text: 'operation not supported on socket' });

export interface Where {
  readonly syscall: string;
  readonly path?: string;
  readonly dest?: string;
}

/** For example: `ENOENT: no such file or directory, open '/x'`. */
export function nodeError(code: string, where: Where, cause?: unknown): NodeFsError {
  const condition = CONDITIONS.get(code);
  let message = `${code}: ${condition?.text ?? 'unknown error'}, ${where.syscall}`;
  if (where.path !== undefined) message += ` '${where.path}'`;
  if (where.dest !== undefined) message += ` -> '${where.dest}'`;
  const error = new Error(message, cause === undefined ? undefined : { cause });
  return Object.assign(error, {
    ...(condition === undefined ? {} : { errno: condition.errno }),
    code,
    syscall: where.syscall,
    ...(where.path === undefined ? {} : { path: where.path }),
    ...(where.dest === undefined ? {} : { dest: where.dest }),
  });
}

/** Runs an operation; its FsError comes out in Node's form, with the original as cause. */
export async function asNode<T>(where: Where, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof TatamiError && /^E[A-Z]+$/.test(error.code)) throw nodeError(error.code, where, error);
    throw error;
  }
}

export function invalidArgument(name: string, problem: string): TypeError {
  return Object.assign(new TypeError(`The argument '${name}' ${problem}`), { code: 'ERR_INVALID_ARG_VALUE' });
}
