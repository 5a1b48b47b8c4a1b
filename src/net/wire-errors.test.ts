import { describe, expect, it } from 'vitest';
import * as errors from '../errors.ts';
import { FsError, TatamiError } from '../errors.ts';
import { packError, unpackError } from './messages.ts';
import { FRAME_FIXED_BYTES } from './frames.ts';

const news = { catalogEpoch: 3, fullPermille: 10, gcGeneration: 1 };

function overTheWire(error: unknown): TatamiError {
  return unpackError(packError(news, error).slice(FRAME_FIXED_BYTES)).error;
}

describe('errors on the wire', () => {
  const classes = Object.entries(errors).filter(
    ([name, value]) => typeof value === 'function' && value.prototype instanceof TatamiError && name !== 'FsError',
  ) as [string, new (message: string, details: errors.ErrorDetails) => TatamiError][];

  it('are all here', () => {
    expect(classes.length).toBeGreaterThan(15);
  });

  it.each(classes)('%s comes back as itself', (_name, errorClass) => {
    const error = new errorClass('why', { remedy: 'Do this.', info: { epoch: 5, primary: 'n1' } });
    const back = overTheWire(error);
    expect(back).toBeInstanceOf(errorClass);
    expect({ ...back, message: back.message }).toEqual({ ...error, message: 'why' });
  });

  it('FsError keeps its errno', () => {
    const back = overTheWire(new FsError('ENOTEMPTY', 'directory not empty'));
    expect(back).toBeInstanceOf(FsError);
    expect((back as FsError).errno).toBe('ENOTEMPTY');
  });

  it('keep the code of a class unknown here, and hide nothing else', () => {
    expect(overTheWire(new TatamiError('ERR_OF_TOMORROW', 'x')).code).toBe('ERR_OF_TOMORROW');
    const bug = overTheWire(new TypeError('undefined is not a function'));
    expect(bug.code).toBe('ERR_INTERNAL');
    expect(bug.message).toContain('undefined is not a function');
  });

  it('lose an info that cannot be carried, not the error', () => {
    const loop: Record<string, unknown> = {};
    loop['self'] = loop;
    const back = overTheWire(new errors.ConflictError('lost', { info: loop }));
    expect(back.code).toBe('ERR_CONFLICT');
    expect(back.info).toBeUndefined();
  });
});
