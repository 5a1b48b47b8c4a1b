/**
 * Names of files are bytes; most are UTF-8, but none has to be. How they are shown to people and to scripts.
 */
import { isUtf8 } from 'node:buffer';

/** Control and formatting characters, unassigned ones and line ends: they would change what the terminal shows. */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/u;

/** As it is if it can be shown, else as bash and ls write it: `$'tab\there \377'`. One can be pasted, the other told apart. */
export function shownName(name: Uint8Array | string): string {
  const bytes = Buffer.from(name);
  const text = bytes.toString();
  if (isUtf8(bytes) && !UNPRINTABLE.test(text)) return text;
  let quoted = '';
  // Whole characters where there are some: latin1 gives each byte that is none as itself.
  for (const part of bytes.toString('latin1').match(/[\0-\x7f]|[\xc2-\xf4][\x80-\xbf]+|[^]/g) ?? []) {
    quoted += quotedPart(Buffer.from(part, 'latin1'));
  }
  return `$'${quoted}'`;
}

const ESCAPES: Readonly<Record<string, string>> = { '\n': '\\n', '\t': '\\t', '\r': '\\r', "'": "\\'", '\\': '\\\\' };

function quotedPart(bytes: Buffer): string {
  const text = bytes.toString();
  const escape = ESCAPES[text];
  if (escape !== undefined) return escape;
  if (isUtf8(bytes) && !UNPRINTABLE.test(text)) return text;
  return [...bytes].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
}

/** For JSON: the text, and beside it under `KEYBase64` the bytes where the text does not say it all. */
export function nameFields(key: string, name: Uint8Array): Record<string, string> {
  const bytes = Buffer.from(name);
  const text = { [key]: bytes.toString() };
  return isUtf8(bytes) ? text : { ...text, [`${key}Base64`]: bytes.toString('base64') };
}

/** `directory` without slashes at its end, a slash and the name. */
export function childPath(directory: Uint8Array | string, name: Uint8Array): Buffer {
  const base = Buffer.from(directory).toString('latin1').replace(/\/+$/, '');
  return Buffer.concat([Buffer.from(`${base}/`, 'latin1'), name]);
}
