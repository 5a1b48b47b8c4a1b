/** Where the network reports what no caller can be told. Injected: a test listens, a node writes it to its log. */
export type Log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  facts?: Readonly<Record<string, unknown>>,
) => void;
