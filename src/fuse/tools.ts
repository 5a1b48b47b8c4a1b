/** Runs mount(8), umount(8) and fusermount(1), never waiting for them synchronously: they may touch our own mount. */
import { spawn } from 'node:child_process';

export interface ToolResult {
  /** Undefined if it could not be started or did not end in time. */
  readonly code: number | undefined;
  /** What it said, one line. */
  readonly message: string;
}

/** `inheritFd` becomes descriptor 3 of the tool. A tool that does not end within `timeoutMs` is killed. */
export function runTool(
  command: string,
  args: readonly string[],
  options: { readonly inheritFd?: number; readonly timeoutMs?: number } = {},
): Promise<ToolResult> {
  return new Promise((resolve) => {
    const fd = options.inheritFd;
    const child = spawn(command, args, {
      // Nothing is written to /dev/null: there are machines on which only root may.
      stdio: fd === undefined ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'pipe', 'pipe', fd],
      cwd: '/',
      env: { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/usr/bin:/sbin:/bin` },
    });
    let said = '';
    child.stdout?.resume();
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(0, 4096)));
    const finish = (code: number | undefined, message: string): void => {
      clearTimeout(timer);
      resolve({ code, message });
    };
    // A tool that hangs in the kernel does not even die of SIGKILL, so its end is not waited for.
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      child.unref();
      finish(undefined, `${command} did not end within ${options.timeoutMs ?? DEFAULT_TIMEOUT_MS} ms`);
    }, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    child.on('error', (error: NodeJS.ErrnoException) =>
      finish(undefined, error.code === 'ENOENT' ? `${command} is not installed` : error.message),
    );
    child.on('close', (code) => finish(code ?? undefined, said.trim().replace(/\s*\n\s*/g, '; ')));
  });
}

const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * Unmounts as root with umount(8) (past /sbin/umount.TYPE, which may be this very program), else with the setuid fusermount. `abort` (root only) ends everything that waits in
 * the connection, too; `lazy` takes the name away though programs use the mount.
 */
export function runUnmount(
  mountPoint: string,
  how: 'plain' | 'lazy' | 'abort',
  timeoutMs = DEFAULT_TIMEOUT_MS,
): Promise<ToolResult> {
  const root = process.geteuid?.() === 0;
  const flags = {
    plain: root ? ['-i'] : ['-u'],
    lazy: root ? ['-i', '-l'] : ['-u', '-z'],
    abort: root ? ['-i', '-f'] : ['-u', '-z'],
  }[how];
  return runTool(root ? 'umount' : 'fusermount', [...flags, mountPoint], { timeoutMs });
}
