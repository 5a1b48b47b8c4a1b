/** Names are bytes: 1 to 255, without `/` and NUL, and not `.` or `..`, which are not stored. */
import { NAME_MAX_BYTES } from '../limits.ts';
import { keyFromBytes } from './keys.ts';
import { refuse } from './outcome.ts';

const SLASH = 0x2f;

/** The name as it stands in keys. Refuses with ENAMETOOLONG or EINVAL. */
export function checkedName(name: Uint8Array): string {
  if (name.length > NAME_MAX_BYTES) refuse('ENAMETOOLONG');
  if (name.length === 0 || name.includes(SLASH) || name.includes(0)) refuse('EINVAL');
  const text = keyFromBytes(name);
  if (text === '.' || text === '..') refuse('EINVAL');
  return text;
}
