/** Rounds that never were, for the tests of what is made of rounds. */
import type { Round } from './compare.ts';
import { STEPS } from './types.ts';
import type { PeerKind, Snapshot, Step, StepResult } from './types.ts';

export const SIZE_BYTES = 100 << 20;

export function fakeKind(name: string): PeerKind {
  return {
    name,
    programs: {},
    layout: `how ${name} is laid out`,
    version: () => `${name} 1.0`,
    create: async () => undefined,
    start: async () => undefined,
    mount: async () => undefined,
    isMount: (commandLine) => commandLine === 'mount',
  };
}

export function fakeSnapshot(atMs: number, mountMs: number, serverMs: number, writtenBytes: number): Snapshot {
  return {
    atMs,
    processes: [
      { pid: 10, commandLine: 'mount', userMs: mountMs / 2, systemMs: mountMs / 2, threadMs: { 10: mountMs } },
      {
        pid: 11,
        commandLine: 'server',
        userMs: serverMs,
        systemMs: 0,
        threadMs: { 11: serverMs / 2, 12: serverMs / 2 },
      },
    ],
    worker: { userMs: atMs / 100, systemMs: atMs / 50 },
    machine: { busyMs: mountMs + serverMs + atMs / 20, idleMs: 2 * atMs - mountMs - serverMs - atMs / 20, stolenMs: 0 },
    writtenBytes,
  };
}

/** In one second: 800 ms of the mount, 400 ms of the servers, and two copies on the disk unless `copies` says otherwise. */
export function fakeResult(step: Step, value: number, copies = 2): StepResult {
  return {
    step,
    value,
    units: 100,
    before: fakeSnapshot(0, 0, 0, 0),
    after: fakeSnapshot(1_000, 800, 400, copies * SIZE_BYTES),
  };
}

/** Ours does 300 everywhere, Alpha 200, Beta 100 (and writes 900 without syncing). */
export const SYSTEMS: readonly PeerKind[] = ['tatamifs', 'Alpha', 'Beta'].map(fakeKind);

export function fakeRound(factor: number): Round {
  const all = (value: number) => Object.fromEntries(STEPS.map((step) => [step, fakeResult(step, factor * value)]));
  const some = (steps: readonly Step[], value: number) =>
    Object.fromEntries(steps.map((step) => [step, fakeResult(step, factor * value)]));
  return {
    systems: {
      tatamifs: all(300),
      Alpha: all(200),
      Beta: { ...all(100), write: fakeResult('write', factor * 900, 0.1) },
    },
    raw: some(['write', 'read', 'read4', 'random'], 1_000),
    empty: some(['read', 'read4'], 640),
  };
}
