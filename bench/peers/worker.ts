/** Does one job and reports each step, with what /proc said right before and after it: worker JOB_AS_JSON. */
import { snapshot } from './proc.ts';
import { prepareStep, runStep } from './workloads.ts';
import type { Job, WorkerMessage } from './workloads.ts';

function tell(message: WorkerMessage): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined) return resolve();
    process.send(message, () => resolve());
  });
}

const job = JSON.parse(process.argv[2] ?? '') as Job;
try {
  for (const step of job.steps) {
    prepareStep(step, job);
    const before = snapshot(job.device);
    const { value, units } = await runStep(step, job);
    const after = snapshot(job.device);
    await tell({ kind: 'step', result: { step, value, units, before, after } });
  }
} catch (error) {
  await tell({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
  process.exitCode = 1;
}
process.disconnect();
