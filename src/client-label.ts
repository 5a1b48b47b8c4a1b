/**
 * How clients call themselves, so that `tatami status` can tell mounts from programs and say where each runs. The label
 * is what travels (docs/formats.md, handshake); one in another form is shown as it is.
 */
export interface ClientInfo {
  readonly kind: 'mount' | 'program';
  /** What it is, without where it runs. */
  readonly label: string;
  readonly mountPoint?: string;
  /** Null where the program does not say. */
  readonly host: string | null;
  readonly pid: number | null;
}

/** `mount /mnt on HOST pid 7`, `tatami ls on HOST pid 7` */
export function labelOf(name: string, host: string, pid: number): string {
  return `${name} on ${host} pid ${pid}`;
}

export function parseClientLabel(text: string): ClientInfo {
  const [, label = text, host = null, pid] = /^(.*) on (\S+) pid (\d+)$/s.exec(text) ?? [];
  const mountPoint = host === null ? undefined : /^mount (\/.*)$/s.exec(label)?.[1];
  return {
    kind: mountPoint === undefined ? 'program' : 'mount',
    label,
    ...(mountPoint === undefined ? {} : { mountPoint }),
    host,
    pid: pid === undefined ? null : Number(pid),
  };
}
