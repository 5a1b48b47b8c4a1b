import pc from 'picocolors';
import { EXIT } from '../exit-codes.ts';
import { checkMachine } from '../machine-checks.ts';
import { print, printJson } from '../output.ts';

export async function doctor(options: { json?: boolean }): Promise<void> {
  const checks = await checkMachine();
  if (options.json === true) printJson(checks);
  else {
    for (const check of checks) {
      const mark = { ok: pc.green('ok     '), warning: pc.yellow('warning'), missing: pc.red('missing') }[check.state];
      print(`${mark}  ${check.name}: ${check.detail}`);
      if (check.remedy !== undefined) print(`         ${check.remedy}`);
    }
  }
  if (checks.some((check) => check.state === 'missing')) process.exitCode = EXIT.unhealthy;
}
