/** Where every part reports what no caller can be told. */

/** A pino logger fits; a test listens or stays silent. Facts first, then a message that is the same each time. */
export interface Logger {
  /** What helps to understand one run. */
  debug(facts: object, message: string): void;
  /** What an operator may want to know; all is well. */
  info(facts: object, message: string): void;
  /** Something failed that is tried again or gone round. */
  warn(facts: object, message: string): void;
  /** Something was lost, or a part can no longer serve. */
  error(facts: object, message: string): void;
}

const nothing = (): void => undefined;

export const SILENT_LOGGER: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/** For parts that report whole sentences. */
export function sentences(logger: Logger, level: keyof Logger = 'info'): (text: string) => void {
  return (text) => logger[level]({}, text);
}
