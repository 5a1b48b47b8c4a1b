import { describe, expect, it } from 'vitest';
import { HELP, parseArguments, replayCommand } from './arguments.ts';

describe('npm run sim', () => {
  it('runs seed 1 with five nodes and a minute by default', () => {
    expect(parseArguments([])).toEqual({
      kind: 'trials',
      seeds: [1, 1],
      first: false,
      brief: false,
      options: { nodes: 5, seconds: 60, timeline: false },
    });
  });

  it('takes a seed, steps and nodes, or a range of seeds', () => {
    expect(parseArguments(['--seed', '7', '--steps', '100', '--nodes', '3'])).toMatchObject({
      seeds: [7, 7],
      options: { nodes: 3, steps: 100 },
    });
    expect(parseArguments(['--seeds', '10-20', '--first'])).toMatchObject({ seeds: [10, 20], first: true });
    expect(parseArguments(['--seeds', '4'])).toMatchObject({ seeds: [4, 4] });
  });

  it('knows mutations and help', () => {
    expect(parseArguments(['--mutations', '--short'])).toEqual({ kind: 'mutations', without: undefined, short: true });
    expect(parseArguments(['--help'])).toEqual({ kind: 'help' });
    expect(HELP).toContain('--seeds A-B');
  });

  it.each([
    [['--seed', 'x'], '--seed: a number from 0 on, not x'],
    [['--seed', '-1'], /--seed/],
    [['--seeds', '9-3'], '--seeds: the first is not below the last: 9-3'],
    [['--seeds', '1-2-3'], '--seeds: A-B, not 1-2-3'],
    [['--seed', '1', '--seeds', '1-2'], 'either --seed or --seeds'],
    [['--nodes', '1'], '--nodes: a number from 2 to 9, not 1'],
    [['--nodes', '3.5'], /--nodes/],
    [['--steps', '0'], /--steps/],
    [['--troubles', 'kill,rain'], /rain/],
    [['--without', 'everything'], /ownEpoch/],
    [['--min-replicas', '3'], /--min-replicas/],
    [['--short'], '--short goes with --mutations'],
    [['--faster'], /--faster/],
    [['17'], /17/],
  ])('refuses %j, and says where to look', (args, message) => {
    expect(() => parseArguments(args)).toThrow(message);
    expect(() => parseArguments(args)).toThrow(expect.objectContaining({ code: 'ERR_USAGE' }));
  });

  it('replays a seed with everything that it was run with', () => {
    const args = '--nodes 4 --seconds 30 --steps 9 --min-replicas 1 --without lease --troubles kill,join';
    const request = parseArguments(args.split(' '));
    if (request.kind !== 'trials') throw new Error('not trials');
    expect(replayCommand(12, request.options)).toBe(`npm run sim -- --seed 12 ${args} --timeline`);
  });
});
