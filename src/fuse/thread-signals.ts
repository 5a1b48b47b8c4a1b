/**
 * Whether a thread is about to die of a signal: what the kernel calls a fatal signal pending. A signal without handler
 * that ends a process (SIGINT, SIGTERM, ...) is turned into a SIGKILL of each of its threads when it is sent, so that one
 * is enough to look for.
 */
import { readFileSync } from 'node:fs';

/** Bit of SIGKILL in the masks of /proc/TID/status. */
const SIGKILL_BIT = 1n << 8n;

/** True as well where it cannot be seen: a thread that is gone, or is of another pid namespace (0). */
export function isThreadEnding(threadId: number): boolean {
  if (threadId === 0) return true;
  let status: string;
  try {
    status = readFileSync(`/proc/${threadId}/status`, 'latin1');
  } catch {
    return true;
  }
  return hasFatalSignal(status);
}

/** `status`: text of /proc/TID/status. */
export function hasFatalSignal(status: string): boolean {
  for (const [, mask = '0'] of status.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gm)) {
    if ((BigInt(`0x${mask}`) & SIGKILL_BIT) !== 0n) return true;
  }
  return false;
}
