/** A value that is written and read as a whole. */
import type { Model } from './linearizable.ts';

export type RegisterCall = { readonly op: 'write'; readonly value: number } | { readonly op: 'read' };
/** What was read; for writes: the value itself. */
export type RegisterAnswer = number;

export const registerModel: Model<number, RegisterCall, RegisterAnswer> = {
  initial: 0,
  key: String,
  step(state, call, answer) {
    if (call.op === 'write') return [call.value];
    return answer === undefined || answer === state ? [state] : [];
  },
};
