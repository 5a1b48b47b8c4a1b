/** Where this program's own files are: in a checkout and in an installed package, before and after they are bundled. */
import { fileURLToPath } from 'node:url';

// In the bundle this is a part of some file beside main.js (scripts/bundle.js), so only what is relative to that is true.
/** Entry point of the command. */
export const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
/** The directory of package.json. */
export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
