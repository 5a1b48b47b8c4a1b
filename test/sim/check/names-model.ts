/**
 * A directory as a model: a few names, files, and one attribute of each that anybody sets. A file is known by its `tag`,
 * which its maker gives it (as its uid) and nobody changes.
 */
import type { Model } from './linearizable.ts';

export type NamesCall =
  | { readonly op: 'create'; readonly name: string; readonly tag: number }
  | { readonly op: 'unlink'; readonly name: string }
  | {
      readonly op: 'rename';
      readonly name: string;
      readonly to: string;
      readonly mode: 'replace' | 'noReplace' | 'exchange';
    }
  /** By inode: `tag` says which file that is. */
  | { readonly op: 'link'; readonly tag: number; readonly name: string }
  | { readonly op: 'setattr'; readonly tag: number; readonly value: number }
  | { readonly op: 'lookup'; readonly name: string }
  | { readonly op: 'getattr'; readonly tag: number }
  | { readonly op: 'readdir' };

/** What may be seen of a file. */
export interface SeenFile {
  readonly tag: number;
  readonly value: number;
  readonly nlink: number;
}

export type NamesAnswer =
  /** The code of a refusal. */
  | { readonly error: string }
  /** A change was made. */
  | { readonly ok: true }
  | { readonly file: SeenFile }
  | { readonly entries: readonly (readonly [string, SeenFile])[] };

export interface NamesState {
  /** Tag by name, sorted by name. */
  readonly names: readonly (readonly [string, number])[];
  /** Value by tag, of files with a name, sorted by tag. */
  readonly values: readonly (readonly [number, number])[];
}

const OK = { ok: true } as const;
const fail = (error: string): NamesAnswer => ({ error });

export const namesModel: Model<NamesState, NamesCall, NamesAnswer> = {
  initial: { names: [], values: [] },
  key: (state) => JSON.stringify([state.names, state.values]),
  step(state, call, answer) {
    const [next, given] = perform(state, call);
    if (answer !== undefined && JSON.stringify(answer) !== JSON.stringify(given)) return [];
    return [next];
  },
};

function perform(state: NamesState, call: NamesCall): readonly [NamesState, NamesAnswer] {
  const names = new Map(state.names);
  const values = new Map(state.values);
  const seen = (tag: number): SeenFile => ({
    tag,
    value: values.get(tag) ?? 0,
    nlink: [...names.values()].filter((other) => other === tag).length,
  });
  const changed = (): readonly [NamesState, NamesAnswer] => [normal(names, values), OK];
  const refused = (code: string): readonly [NamesState, NamesAnswer] => [state, fail(code)];
  switch (call.op) {
    case 'create':
      if (names.has(call.name)) return refused('EEXIST');
      names.set(call.name, call.tag);
      values.set(call.tag, 0);
      return changed();
    case 'unlink':
      return names.delete(call.name) ? changed() : refused('ENOENT');
    case 'rename': {
      const moved = names.get(call.name);
      const there = names.get(call.to);
      if (moved === undefined) return refused('ENOENT');
      if (call.mode === 'exchange') {
        if (there === undefined) return refused('ENOENT');
        names.set(call.name, there).set(call.to, moved);
        return changed();
      }
      if (there !== undefined && call.mode === 'noReplace') return refused('EEXIST');
      // POSIX: two names of one file; nothing happens.
      if (there === moved) return [state, OK];
      names.delete(call.name);
      names.set(call.to, moved);
      return changed();
    }
    case 'link':
      if (!values.has(call.tag)) return refused('ENOENT');
      if (names.has(call.name)) return refused('EEXIST');
      names.set(call.name, call.tag);
      return changed();
    case 'setattr':
      if (!values.has(call.tag)) return refused('ENOENT');
      values.set(call.tag, call.value);
      return changed();
    case 'lookup': {
      const tag = names.get(call.name);
      return tag === undefined ? refused('ENOENT') : [state, { file: seen(tag) }];
    }
    case 'getattr':
      return values.has(call.tag) ? [state, { file: seen(call.tag) }] : refused('ENOENT');
    case 'readdir':
      return [state, { entries: state.names.map(([name, tag]) => [name, seen(tag)] as const) }];
  }
}

function normal(names: ReadonlyMap<string, number>, values: ReadonlyMap<number, number>): NamesState {
  const named = new Set(names.values());
  return {
    names: [...names].sort(([a], [b]) => (a < b ? -1 : 1)),
    values: [...values].filter(([tag]) => named.has(tag)).sort(([a], [b]) => a - b),
  };
}
