import { describe, expect, it } from 'vitest';
import { countTests } from './test-report.js';
import { hasProgram, packagesFor } from './system-packages.js';

describe('countTests', () => {
  it('takes the numbers of a report', () => {
    expect(countTests(true, '{"numPassedTests":12,"numFailedTests":0}')).toEqual({ passed: 12, failed: 0 });
    expect(countTests(false, '{"numPassedTests":12,"numFailedTests":3}')).toEqual({ passed: 12, failed: 3 });
  });

  it('counts a run that failed outside of its tests', () => {
    expect(countTests(false, '{"numPassedTests":12,"numFailedTests":0}')).toEqual({ passed: 12, failed: 1 });
    expect(countTests(false, '{"numPass')).toEqual({ passed: 0, failed: 1 });
    expect(countTests(false, undefined)).toEqual({ passed: 0, failed: 1 });
  });

  it('counts a step without tests only if it fails', () => {
    expect(countTests(true, undefined)).toEqual({ passed: 0, failed: 0 });
  });
});

describe('system packages', () => {
  it('knows what is there and which package brings what', () => {
    expect(hasProgram('sh')).toBe(true);
    expect(hasProgram('no-such-program-at-all')).toBe(false);
    expect(packagesFor(['rsync', 'fusermount', 'umount', 'mount'])).toEqual(['fuse', 'mount', 'rsync']);
  });
});
