/** Types and permission bits of files, in words and as `ls -l` writes them. */

const TYPES: Readonly<Record<number, readonly [name: string, letter: string]>> = {
  0o100000: ['file', '-'],
  0o040000: ['directory', 'd'],
  0o120000: ['symlink', 'l'],
  0o010000: ['fifo', 'p'],
  0o140000: ['socket', 's'],
  0o020000: ['char', 'c'],
  0o060000: ['block', 'b'],
};

export function typeName(mode: number): string {
  return TYPES[mode & 0o170000]?.[0] ?? 'unknown';
}

/** `drwxr-xr-t` */
export function modeText(mode: number): string {
  const bits = [...'rwxrwxrwx'].map((bit, index) => ((mode >> (8 - index)) & 1 ? bit : '-'));
  for (const [bit, at, letter] of SPECIAL) {
    if ((mode & bit) !== 0) bits[at] = bits[at] === '-' ? letter.toUpperCase() : letter;
  }
  return `${TYPES[mode & 0o170000]?.[1] ?? '?'}${bits.join('')}`;
}

/** setuid, setgid, sticky: shown in the place of the x whose meaning they change. */
const SPECIAL = [
  [0o4000, 2, 's'],
  [0o2000, 5, 's'],
  [0o1000, 8, 't'],
] as const;
