/** Parsing of /proc/self/mountinfo: which filesystem is mounted where, learned without touching any of them. */

export interface MountEntry {
  /** `major:minor` of its device, the name of its directory in /sys/class/bdi. */
  readonly device: string;
  readonly mountPoint: string;
  readonly fsType: string;
  readonly source: string;
  /** Of the mount, not of the filesystem: `rw`, `noatime`, ... */
  readonly options: readonly string[];
}

/** Fields are separated by blanks; blanks, tabs, newlines and backslashes within them are octal escapes of bytes. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}

/** Entries in the order of the table: of several at one mount point the last is on top. Lines of another form are skipped. */
export function parseMountInfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const fields = line.split(' ');
    // Optional fields of any number end with a single dash.
    const dash = fields.indexOf('-', 6);
    const [device, mountPoint, fsType, source] = [fields[2], fields[4], fields[dash + 1], fields[dash + 2]];
    if (dash < 0 || device === undefined || mountPoint === undefined || fsType === undefined || source === undefined)
      continue;
    const options = (fields[5] ?? '').split(',');
    const names = { mountPoint: unescape(mountPoint), fsType: unescape(fsType), source: unescape(source) };
    entries.push({ device, ...names, options });
  }
  return entries;
}

export function findMount(entries: readonly MountEntry[], mountPoint: string): MountEntry | undefined {
  return entries.findLast((entry) => entry.mountPoint === mountPoint);
}
