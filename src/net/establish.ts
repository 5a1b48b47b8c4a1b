/** Takes a fresh Connection through the handshake and makes an RpcChannel of it. Nothing is served before it is through. */
import type { Connection, Env } from '../env.ts';
import { FormatError, PeerUnreachableError, TatamiError, TimeoutError } from '../errors.ts';
import { FrameDecoder, HANDSHAKE_LIMITS, FrameType } from './frames.ts';
import { Handshake, NONCE_BYTES, refuseFrame } from './handshake.ts';
import type { OwnIdentity, Role } from './handshake.ts';
import type { Log } from './log.ts';
import type { MemberBoard } from './membership/board.ts';
import { RpcChannel } from './rpc.ts';
import type { RpcChannelOptions } from './rpc.ts';
import type { Handler, News } from './types.ts';

export interface EstablishOptions {
  readonly env: Pick<Env, 'clock' | 'random'>;
  readonly key: Uint8Array;
  readonly clusterId: string;
  readonly self: OwnIdentity;
  readonly handlers: ReadonlyMap<string, Handler>;
  readonly ownNews: () => News;
  readonly heard: RpcChannelOptions['heard'];
  /** What this process tells about nodes; absent on clients. */
  readonly board?: MemberBoard;
  readonly onGoAway: (channel: RpcChannel) => void;
  readonly log: Log;
}

export interface Establishing {
  /** Rejects with AuthError, FormatError, OverloadedError, TimeoutError or PeerUnreachableError; the connection is then closed. */
  readonly ready: Promise<RpcChannel>;
  /** Gives up, telling the peer why. */
  abort(error: TatamiError): void;
}

/** Runs the handshake on `connection`, which becomes the channel's. */
export function establish(
  options: EstablishOptions,
  connection: Connection,
  role: Role,
  timeoutMs: number,
): Establishing {
  const { env } = options;
  const handshake = new Handshake({
    role,
    key: options.key,
    clusterId: options.clusterId,
    nonce: env.random.bytes(NONCE_BYTES),
    self: options.self,
    remoteAddress: connection.remoteAddress,
  });
  let channel: RpcChannel | undefined;
  let failed = false;
  let settle: { resolve: (channel: RpcChannel) => void; reject: (error: TatamiError) => void };
  const ready = new Promise<RpcChannel>((resolve, reject) => {
    settle = { resolve, reject };
  });
  const timer = env.clock.setTimer(timeoutMs, () => {
    fail(
      new TimeoutError(`${connection.remoteAddress} did not finish the handshake within ${Math.round(timeoutMs)} ms`),
      false,
    );
  });

  function fail(error: TatamiError, tellPeer: boolean): void {
    if (failed || channel !== undefined) return;
    failed = true;
    timer.cancel();
    if (tellPeer) {
      connection.write([refuseFrame(error)]);
      connection.end();
    } else {
      connection.destroy();
    }
    settle.reject(error);
  }

  const decoder = new FrameDecoder(
    {
      onFrame(type, _flags, _id, header) {
        let step;
        try {
          step = handshake.receive(type, header);
        } catch (error) {
          fail(asTatamiError(error), type !== FrameType.refuse);
          return undefined;
        }
        if (failed) return undefined;
        if (step.send.length > 0) connection.write(step.send);
        if (step.done !== undefined) {
          timer.cancel();
          channel = new RpcChannel({ ...options, connection, remote: step.done }, decoder);
          settle.resolve(channel);
        }
        return undefined;
      },
      onChunk() {
        // Payloads are not allowed before the handshake is through (HANDSHAKE_LIMITS).
      },
    },
    HANDSHAKE_LIMITS,
  );

  connection.onClose((error) => {
    if (channel !== undefined) channel.ended(error);
    else
      fail(
        new PeerUnreachableError(`${connection.remoteAddress} closed the connection during the handshake`, {
          cause: error,
        }),
        false,
      );
  });
  connection.onDrain(() => channel?.drained());
  const receive = (chunk: Uint8Array): void => {
    if (failed || channel?.closed === true) return;
    channel?.received();
    try {
      decoder.push(chunk);
    } catch (error) {
      const reason = asTatamiError(error);
      if (channel !== undefined) {
        options.log('warn', `closing the connection with ${connection.remoteAddress}: ${reason.message}`, {
          code: reason.code,
        });
        channel.fail(reason);
        return;
      }
      // A stranger that does not speak frames would not understand the refusal; one of another version will.
      fail(reason, reason instanceof FormatError && reason.info?.['version'] !== undefined);
    }
  };
  connection.onData(receive, () => decoder.place());
  const { send } = handshake.start();
  if (send.length > 0) connection.write(send);
  return {
    ready,
    abort: (error) => {
      fail(error, true);
    },
  };
}

function asTatamiError(error: unknown): TatamiError {
  if (error instanceof TatamiError) return error;
  return new FormatError(
    `a peer's bytes could not be handled: ${error instanceof Error ? error.message : String(error)}`,
    { cause: error },
  );
}
