/** Rumours as they travel: one flat list `[node, incarnation, state, node, ...]`, the state by its number. Pure. */
import { FormatError } from '../../errors.ts';
import type { NodeId } from '../../ids.ts';
import { MEMBER_STATES, CATCH_UP_PER_MESSAGE_MAX } from './board.ts';
import type { Rumour } from './board.ts';

const FIELDS = 3;

export function encodeRumours(rumours: readonly Rumour[]): (string | number)[] {
  return rumours.flatMap(({ node, incarnation, state }) => [node, incarnation, MEMBER_STATES.indexOf(state)]);
}

/** Undefined where there are none. States that this version does not know are passed over. */
export function decodeRumours(value: unknown): readonly Rumour[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length % FIELDS !== 0 || value.length > FIELDS * CATCH_UP_PER_MESSAGE_MAX)
    throw new FormatError('a message has malformed rumours');
  const rumours: Rumour[] = [];
  for (let at = 0; at < value.length; at += FIELDS) {
    const [node, incarnation, number] = value.slice(at, at + FIELDS) as unknown[];
    if (typeof node !== 'string' || !/^[a-z0-9-]{1,64}$/.test(node) || !isIncarnation(incarnation))
      throw new FormatError('a message has malformed rumours');
    const state = typeof number === 'number' ? MEMBER_STATES[number] : undefined;
    if (state !== undefined) rumours.push({ node: node as NodeId, incarnation, state });
  }
  return rumours;
}

/** Half of what is exact: whoever refutes counts on from it. */
function isIncarnation(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= Number.MAX_SAFE_INTEGER / 2;
}
