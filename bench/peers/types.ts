/** What is compared: systems that are set up, mounted, started afresh and taken away in the same way. */
import type { Sandbox } from './sandbox.ts';

/** Where one system keeps everything it writes: a directory on the disk under test. */
export interface Place {
  readonly directory: string;
  readonly mountPoint: string;
}

/**
 * What has to be known of a system to measure it. `PeerSystem` (system.ts) does what is the same for all: the namespaces,
 * the mount point, cold restarts, the end.
 */
export interface PeerKind {
  readonly name: string;
  /** Programs it needs, and the Debian packages that they come from. */
  readonly programs: Readonly<Record<string, string>>;
  /** Servers, copies, settings: a sentence for the report. */
  readonly layout: string;
  version(): string;
  /** Files of a new system. Nothing runs yet. */
  create(place: Place, sandbox: Sandbox): Promise<void>;
  /** Starts the servers on what `create` has made or an earlier start has left, and waits until they serve. */
  start(place: Place, sandbox: Sandbox, first: boolean): Promise<void>;
  /** Mounts, and waits until data can be read and written without a retry. */
  mount(place: Place, sandbox: Sandbox): Promise<void>;
  /** Stops in order what must not simply be unmounted and be told to end, which is what happens afterwards. */
  stop?(place: Place, sandbox: Sandbox): Promise<void>;
  /** Whether a process, by its command line, is the one that serves the mount; all others are servers. */
  readonly isMount: (commandLine: string) => boolean;
}

/** One step that is measured. */
export const STEPS = [
  'write',
  'read',
  'read4',
  'random',
  'randomLater',
  'create',
  'createLater',
  'list',
  'listLater',
  'readSmall',
  'readSmallAgain',
  'readSmallLater',
  'unlink',
  'unlinkLater',
] as const;
export type Step = (typeof STEPS)[number];

/** Processor time of one process, in ms, when it was looked at. */
export interface ProcessTimes {
  readonly pid: number;
  readonly commandLine: string;
  readonly userMs: number;
  readonly systemMs: number;
  /** By thread id. */
  readonly threadMs: Readonly<Record<string, number>>;
}

export interface Snapshot {
  readonly atMs: number;
  readonly processes: readonly ProcessTimes[];
  /** Of the program that reads and writes, which looks. */
  readonly worker: { readonly userMs: number; readonly systemMs: number };
  /** Of the whole machine, all processors together. */
  readonly machine: MachineTimes;
  /** Bytes that the disk under test has been told to write since it was started; undefined where the kernel does not count. */
  readonly writtenBytes: number | undefined;
}

export interface MachineTimes {
  readonly busyMs: number;
  readonly idleMs: number;
  /** What the host gave to others. */
  readonly stolenMs: number;
}

/** What a step did: its speed, and the looks at /proc right before and right after it. */
export interface StepResult {
  readonly step: Step;
  /** MB/s (10^6 bytes) for large files, operations per second for the rest. */
  readonly value: number;
  /** What the costs are divided by: MiB, or operations. */
  readonly units: number;
  readonly before: Snapshot;
  readonly after: Snapshot;
}
