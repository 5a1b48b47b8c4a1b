/** Whoever runs the command: owns `/` of a cluster that it makes, and the files that it puts. */
export function thisUser(): { readonly uid: number; readonly gid: number } {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}
