/** Where every part reports what no caller can be told. A pino logger fits; a test listens or stays silent. */

export interface Logger {
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

const nothing = (): void => undefined;

export const SILENT_LOGGER: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/** For parts that report whole sentences. */
export function sentences(logger: Logger, level: keyof Logger = 'info'): (text: string) => void {
  return (text) => logger[level]({}, text);
}
