import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AuthError, FormatError, OverloadedError, PeerUnreachableError, TatamiError } from '../errors.ts';
import type { NodeId } from '../ids.ts';
import { FRAME_FIXED_BYTES, FrameType } from './frames.ts';
import { Handshake, PROTOCOL_VERSION, refuseFrame } from './handshake.ts';
import type { HandshakeOptions, Role } from './handshake.ts';

const key = new Uint8Array(32).fill(1);

function side(role: Role, changes: Partial<HandshakeOptions> = {}): Handshake {
  const initiator = role === 'initiator';
  return new Handshake({
    role,
    key,
    clusterId: 'c1',
    nonce: new Uint8Array(32).fill(initiator ? 10 : 20),
    self: initiator
      ? { kind: 'client', instanceId: 'aa', address: '', label: 'mount\u001b[2J' }
      : { kind: 'node', nodeId: 'n1' as NodeId, instanceId: 'bb', address: '0.0.0.0:7420', label: 'n1' },
    remoteAddress: '10.0.0.9:5000',
    ...changes,
  });
}

const headerOf = (frame: Uint8Array): Uint8Array => frame.subarray(FRAME_FIXED_BYTES);
const typeOf = (frame: Uint8Array): FrameType => frame[13] as FrameType;

function deliver(to: Handshake, frames: readonly Uint8Array[]): { send: Uint8Array[]; done: unknown } {
  const send: Uint8Array[] = [];
  let done: unknown;
  for (const frame of frames) {
    const step = to.receive(typeOf(frame), headerOf(frame));
    send.push(...step.send);
    done ??= step.done;
  }
  return { send, done };
}

describe('handshake', () => {
  it('tells both sides who the other is', () => {
    const [initiator, responder] = [side('initiator'), side('responder')];
    const second = deliver(responder, initiator.start().send);
    expect(second.done).toBeUndefined();
    const third = deliver(initiator, second.send);
    expect(third.done).toEqual({ kind: 'node', nodeId: 'n1', instanceId: 'bb', address: '10.0.0.9:7420', label: 'n1' });
    const end = deliver(responder, third.send);
    expect(end.done).toEqual({ kind: 'client', instanceId: 'aa', address: '10.0.0.9:5000', label: 'mount [2J' });
    expect(end.send).toEqual([]);
  });

  it('refuses another key, with the remedy, at the dialler', () => {
    const initiator = side('initiator', { key: new Uint8Array(32).fill(2) });
    const answer = deliver(side('responder'), initiator.start().send).send;
    expect(() => deliver(initiator, answer)).toThrow(AuthError);
    expect(() => deliver(side('initiator', { key: new Uint8Array(32).fill(2) }), answer)).toThrow(
      /another cluster key/,
    );
  });

  it('refuses a dialler that cannot prove the key', () => {
    const responder = side('responder');
    deliver(responder, side('initiator').start().send);
    expect(() => responder.receive(FrameType.proof, new Uint8Array(32))).toThrow(AuthError);
  });

  it('refuses another cluster; a joiner may not know the cluster yet', () => {
    expect(() => deliver(side('responder'), side('initiator', { clusterId: 'c2' }).start().send)).toThrow(
      /another cluster/,
    );
    const [initiator, responder] = [side('initiator', { clusterId: '' }), side('responder')];
    const third = deliver(initiator, deliver(responder, initiator.start().send).send);
    expect(deliver(responder, third.send).done).toBeDefined();
  });

  it('cannot be satisfied by reflection', () => {
    const initiator = side('initiator');
    const hello = initiator.start().send;
    expect(() => deliver(initiator, hello)).toThrow(AuthError);
    // Via a second connection to the same process: its proof is of the other role.
    const victim = side('initiator');
    const mirror = side('responder', {
      self: { kind: 'client', instanceId: 'aa', address: '', label: 'x' },
      nonce: new Uint8Array(32).fill(30),
    });
    const proof = deliver(mirror, victim.start().send).send[1] as Uint8Array;
    const asked = side('responder');
    deliver(asked, side('initiator').start().send);
    expect(() => asked.receive(FrameType.proof, headerOf(proof))).toThrow(AuthError);
  });

  it.each([PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1])('refuses version %i and passes the reason on', (version) => {
    const hello = side('initiator').start().send[0]?.slice() as Uint8Array;
    hello[FRAME_FIXED_BYTES] = version;
    let refusal: unknown;
    try {
      deliver(side('responder'), [hello]);
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toBeInstanceOf(FormatError);
    const frame = refuseFrame(refusal as TatamiError);
    expect(() => deliver(side('initiator'), [frame])).toThrow(FormatError);
    expect(() => deliver(side('initiator'), [frame])).toThrow(
      `10.0.0.9:5000 refused the connection: the peer speaks protocol version ${version}, this program`,
    );
  });

  it.each([
    [new AuthError('no'), AuthError],
    [new FormatError('no'), FormatError],
    [new OverloadedError('no'), OverloadedError],
    // A node that ends while others connect: no reason to give up, as a wrong key is.
    [new PeerUnreachableError('no'), PeerUnreachableError],
  ])('a refusal for %s is that for the dialler, too', (error, wanted) => {
    expect(() => deliver(side('initiator'), [refuseFrame(error)])).toThrow(wanted);
  });

  it('takes no message out of order or malformed', () => {
    expect(() => side('responder').receive(FrameType.proof, new Uint8Array(32))).toThrow(FormatError);
    fc.assert(
      fc.property(
        fc.constantFrom(FrameType.hello, FrameType.refuse),
        fc.uint8Array({ maxLength: 200 }),
        (type, bytes) => {
          expect(() => side('responder').receive(type, bytes)).toThrow(TatamiError);
        },
      ),
    );
  });
});
