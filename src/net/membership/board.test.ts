import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { NodeId } from '../../ids.ts';
import {
  CATCH_UP_PER_MESSAGE_MAX,
  MEMBER_STATES,
  MemberBoard,
  RUMOURS_PER_MESSAGE_MAX,
  Teller,
  tellingsOf,
} from './board.ts';
import type { Rumour } from './board.ts';
import { decodeRumours, encodeRumours } from './rumour-codec.ts';

const id = (name: string): NodeId => name as NodeId;
const members = (...names: string[]): ReadonlySet<NodeId> => new Set(names.map(id));
const rumour = (node: string, incarnation: number, state: Rumour['state']): Rumour => ({
  node: id(node),
  incarnation,
  state,
});

function boardOf(self: string, names: string[], incarnation = 10): MemberBoard {
  const board = new MemberBoard({ self: id(self), incarnation });
  board.setMembers(members(...names), 0);
  return board;
}

describe('what is held of a node', () => {
  it('is the same in whatever order, and however often, it was heard', () => {
    const any = fc.record({
      node: fc.constantFrom(id('n2'), id('n3')),
      incarnation: fc.integer({ min: 0, max: 5 }),
      state: fc.constantFrom(...MEMBER_STATES),
    });
    fc.assert(
      fc.property(fc.array(any, { maxLength: 20 }), fc.infiniteStream(fc.nat()), (rumours, chance) => {
        const [a, b] = [boardOf('n1', ['n1', 'n2', 'n3']), boardOf('n1', ['n1', 'n2', 'n3'])];
        a.hear(rumours, 0);
        const order = rumours.map((each) => ({ each, at: chance.next().value! })).sort((x, y) => x.at - y.at);
        for (const { each } of order) b.hear([each, each], 0);
        const shown = (board: MemberBoard) => ['n2', 'n3'].map((name) => board.view(id(name)));
        expect(shown(b)).toEqual(shown(a));
      }),
    );
  });

  it('is refuted by the node itself, with a new incarnation', () => {
    const changes: string[] = [];
    const board = new MemberBoard({
      self: id('n1'),
      incarnation: 10,
      onChange: ({ node, incarnation, state }) => changes.push(`${node} ${state} ${incarnation}`),
    });
    board.setMembers(members('n1', 'n2'), 0);
    board.hear([rumour('n1', 10, 'suspect')], 1);
    board.hear([rumour('n1', 10, 'dead')], 2);
    board.hear([rumour('n1', 11, 'dead')], 3);
    expect(changes).toEqual(['n1 alive 10', 'n1 alive 11', 'n1 alive 12']);
  });

  it('also where an earlier run of the node had a clock that was ahead', () => {
    const board = boardOf('n1', ['n1', 'n2']);
    board.hear([rumour('n1', 99, 'alive')], 0);
    expect(board.view(id('n1'))).toMatchObject({ state: 'alive', incarnation: 100 });
  });

  it('not by one that stops', () => {
    const board = boardOf('n1', ['n1', 'n2']);
    board.leave(1);
    board.hear([rumour('n1', 10, 'dead')], 2);
    expect(board.view(id('n1'))).toMatchObject({ state: 'left', incarnation: 10, sinceMs: 1 });
  });

  it('is kept for nodes that the catalog brings later, and forgotten with those that it takes away', () => {
    const board = boardOf('n1', ['n1', 'n2']);
    board.hear([rumour('n3', 4, 'alive'), rumour('n2', 1, 'dead')], 0);
    expect(board.stateOf(id('n3'))).toBeUndefined();
    board.setMembers(members('n1', 'n3'), 1);
    expect(board.views().map(({ node, state }) => `${node} ${state}`)).toEqual(['n1 alive', 'n3 alive']);
  });
});

describe('telling', () => {
  const names = Array.from({ length: 30 }, (_, index) => `n${index + 1}`);

  it('tells a new connection all that is known, first what is out of the ordinary, and then nothing', () => {
    const many = Array.from({ length: 100 }, (_, index) => `n${index + 1}`);
    const board = boardOf('n1', many);
    board.hear(
      many.slice(1).map((name) => rumour(name, 1, name === 'n99' ? 'dead' : 'alive')),
      0,
    );
    const teller = new Teller();
    expect(board.hasNews(teller)).toBe(true);
    const first = board.take(teller, id('n2')) ?? [];
    expect(first).toHaveLength(CATCH_UP_PER_MESSAGE_MAX);
    expect(first[0]).toEqual(rumour('n99', 1, 'dead'));
    expect(decodeRumours(encodeRumours(first))).toEqual(first);
    const told = [...first, ...(board.take(teller, id('n2')) ?? [])];
    expect(new Set(told.map(({ node }) => node)).size).toBe(100);
    expect(board.hasNews(teller)).toBe(false);
    expect(board.take(teller, id('n2'))).toBeUndefined();
  });

  it('tells an old connection what is new, a few rumours with each message', () => {
    const board = boardOf('n1', names);
    const teller = new Teller();
    board.take(teller, id('n2'));
    board.hear(
      names.slice(1).map((name) => rumour(name, 1, 'alive')),
      0,
    );
    const counts: number[] = [];
    while (board.hasNews(teller)) counts.push(board.take(teller, id('n2'))?.length ?? 0);
    expect(counts).toEqual([8, 8, 8, 5]);
    expect(Math.max(...counts)).toBe(RUMOURS_PER_MESSAGE_MAX);
  });

  it('a rumour goes to O(log n) old connections with nodes, to whom it concerns, and to all clients', () => {
    const board = boardOf('n1', names);
    const tellers = names.map((name) => ({ name, teller: new Teller() }));
    const client = new Teller();
    for (const { name, teller } of tellers) board.take(teller, id(name));
    board.take(client, undefined);
    board.hear([rumour('n30', 1, 'suspect')], 1);
    const heard = tellers.filter(({ name, teller }) => board.take(teller, id(name)) !== undefined);
    expect(heard).toHaveLength(tellingsOf(names.length) + 1);
    expect(heard.at(-1)?.name).toBe('n30');
    expect(board.take(client, undefined)).toEqual([rumour('n30', 1, 'suspect')]);
    // What may have been missed is told when everything is told once more.
    const missed = tellers.find(({ name }) => !heard.some((each) => each.name === name))!;
    board.tellAll(missed.teller);
    expect(board.take(missed.teller, id(missed.name))).toContainEqual(rumour('n30', 1, 'suspect'));
  });
});
