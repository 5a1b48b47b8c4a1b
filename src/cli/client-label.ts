/** This process among the clients of a cluster. */
import { hostname } from 'node:os';
import type { ClientInfo } from '../client-label.ts';
import { labelOf } from '../client-label.ts';

export { parseClientLabel } from '../client-label.ts';

export function clientLabel(name: string, host = hostname(), pid = process.pid): string {
  return labelOf(name, host, pid);
}

/** Whether this is the process that asks. */
export function isThisProcess({ host, pid }: ClientInfo): boolean {
  return pid === process.pid && host === hostname();
}
