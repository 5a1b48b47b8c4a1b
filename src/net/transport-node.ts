/** The real Transport: TCP, TLS off the loopback interface, UDP. */
import { createHmac } from 'node:crypto';
import * as net from 'node:net';
import * as tls from 'node:tls';
import type { Address, Connection, DatagramSocket, Listener, Transport } from '../env.ts';
import { AuthError, PeerUnreachableError, TimeoutError } from '../errors.ts';
import { formatAddress, isLoopbackHost, parseAddress } from './address.ts';
import { openDatagramSocket } from './transport-node-udp.ts';
import { NodeConnection, ReadBuffer } from './transport-node-connection.ts';

export interface NodeTransportOptions {
  /** The cluster key. Without it there is no TLS anywhere. */
  readonly tlsKey?: Uint8Array;
  /** TLS on the loopback interface too; for tests. */
  readonly tlsOnLoopback?: boolean;
}

/**
 * TLS is used on every connection whose *server's* end is not on a loopback address; both ends see that address in the
 * established TCP connection, so they agree whatever name was dialled and even if the server listens on all interfaces.
 *
 * TLS 1.3 with a pre-shared key (derived from the cluster key) and X25519. Through Node's pskCallback OpenSSL offers a
 * TLS 1.3 PSK with SHA-256 only, so the cipher is AES-128-GCM.
 */
const TLS_OPTIONS = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256' } as const;
const PSK_IDENTITY = 'tatamifs-1';
/** A stranger that connects and does not finish the TLS handshake is let go after this. */
const TLS_HANDSHAKE_TIMEOUT_MS = 3_000;
/** As HANDSHAKES_MAX_COUNT, one layer below: sockets in the TLS handshake. */
const TLS_HANDSHAKES_MAX_COUNT = 64;

export function createNodeTransport(options: NodeTransportOptions = {}): Transport {
  const psk =
    options.tlsKey === undefined
      ? undefined
      : createHmac('sha256', options.tlsKey).update('tatamifs tls psk 1').digest();
  const secureContext = psk === undefined ? undefined : tls.createSecureContext(TLS_OPTIONS);
  const isPlain = (host: string): boolean =>
    psk === undefined || (options.tlsOnLoopback !== true && isLoopbackHost(host));
  return {
    listen: (address, onConnection) => listen(address, onConnection, isPlain, psk, secureContext),
    connect: (address, timeoutMs) => connect(address, timeoutMs, isPlain, psk),
    datagram: (address, datagramOptions): Promise<DatagramSocket> => openDatagramSocket(address, datagramOptions),
  };
}

async function listen(
  address: Address,
  onConnection: (connection: Connection) => void,
  isPlain: (host: string) => boolean,
  psk: Buffer | undefined,
  secureContext: tls.SecureContext | undefined,
): Promise<Listener> {
  const { host, port } = parseAddress(address);
  const securing = new Set<net.Socket>();

  function secure(raw: net.Socket, serverPsk: Buffer): void {
    if (securing.size >= TLS_HANDSHAKES_MAX_COUNT) {
      const [oldest] = securing;
      oldest?.destroy();
    }
    securing.add(raw);
    raw.once('close', () => securing.delete(raw));
    raw.on('error', () => undefined);
    const timer = setTimeout(() => raw.destroy(), TLS_HANDSHAKE_TIMEOUT_MS);
    timer.unref();
    const socket = new tls.TLSSocket(raw, {
      isServer: true,
      ...(secureContext === undefined ? {} : { secureContext }),
      ...TLS_OPTIONS,
      pskCallback: (_socket: tls.TLSSocket, identity: string) => (identity === PSK_IDENTITY ? serverPsk : null),
    } as tls.TLSSocketOptions);
    const name = remoteName(raw);
    socket.once('close', () => {
      clearTimeout(timer);
    });
    socket.on('error', () => raw.destroy());
    socket.once('secure', () => {
      clearTimeout(timer);
      securing.delete(raw);
      onConnection(new NodeConnection(socket, name));
    });
  }

  const server = net.createServer({ noDelay: true, pauseOnConnect: true }, (accepted) => {
    if (psk !== undefined && !isPlain(accepted.localAddress ?? '')) {
      accepted.resume();
      secure(accepted, psk);
      return;
    }
    const name = remoteName(accepted);
    const { socket, readsInto } = withReadBuffer(accepted);
    onConnection(new NodeConnection(socket, name, readsInto));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, exclusive: true }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  server.on('error', () => undefined);
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new PeerUnreachableError(`${address} gave no TCP address`);
  return {
    address: formatAddress(host, bound.port),
    close: () => {
      server.close();
      // Connections already handed over belong to whoever has them; those still in the TLS handshake are ours.
      for (const socket of securing) socket.destroy();
      return Promise.resolve();
    },
  };
}

async function connect(
  address: Address,
  timeoutMs: number,
  isPlain: (host: string) => boolean,
  psk: Buffer | undefined,
): Promise<Connection> {
  const { host, port } = parseAddress(address);
  const receiver = new ReadBuffer();
  // With onread the socket reads into one buffer again and again, or straight into the place of what comes.
  const onread = receiver.onread();
  const isCertain = psk !== undefined && net.isIP(host) !== 0 && !isPlain(host);
  // A name may mean this machine: then the address tells whether TLS is wanted. TLS over a socket that exists ignores onread.
  const raw = isCertain
    ? tls.connect({ host, port, onread, ...tlsOptions(psk) } as tls.ConnectionOptions)
    : new net.Socket({ onread } as net.SocketConstructorOpts);
  raw.setNoDelay(true);
  return new Promise<Connection>((resolve, reject) => {
    let settled = false;
    let secured: tls.TLSSocket | undefined;
    const timer = setTimeout(() => {
      fail(
        new TimeoutError(`no connection to ${address} within ${Math.round(timeoutMs)} ms`, {
          remedy: 'Check that the machine is up and that no firewall is in the way.',
        }),
      );
    }, timeoutMs);
    timer.unref();

    function fail(error: Error): void {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      secured?.destroy();
      raw.destroy();
      reject(error);
    }
    function succeed(socket: net.Socket, readsInto?: ReadBuffer): void {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      raw.off('error', onError);
      raw.off('close', onClose);
      resolve(new NodeConnection(socket, address, readsInto));
    }
    const onError = (error: Error): void => {
      fail(tlsError(address, error));
    };
    const onClose = (): void => {
      fail(new PeerUnreachableError(`${address} closed the connection`));
    };
    raw.on('error', onError);
    raw.on('close', onClose);
    if (isCertain) {
      raw.once('secureConnect', () => {
        succeed(raw, receiver);
      });
      return;
    }
    raw.connect({ host, port }, () => {
      if (psk === undefined || isPlain(raw.remoteAddress ?? '')) {
        succeed(raw, receiver);
        return;
      }
      secured = tls.connect({ socket: raw, ...tlsOptions(psk) } as tls.ConnectionOptions);
      const tlsSocket = secured;
      tlsSocket.on('error', (error: Error) => {
        fail(tlsError(address, error));
      });
      tlsSocket.once('secureConnect', () => {
        succeed(tlsSocket);
      });
    });
  });
}

/** Of the side that dials. */
function tlsOptions(psk: Buffer): tls.ConnectionOptions {
  return {
    ...TLS_OPTIONS,
    checkServerIdentity: () => undefined,
    pskCallback: () => ({ psk, identity: PSK_IDENTITY }),
  };
}

/**
 * An accepted socket that reads into one buffer: net.Server has no option for it, so its handle is put into a new socket.
 * Should a later Node not have the handle where this one has it, the socket is used as it is.
 */
function withReadBuffer(accepted: net.Socket): { socket: net.Socket; readsInto?: ReadBuffer } {
  const holder = accepted as unknown as { _handle?: { reading?: boolean } | null };
  const handle = holder._handle;
  if (handle === undefined || handle === null || typeof handle !== 'object') return { socket: accepted };
  const readsInto = new ReadBuffer();
  const socket = new net.Socket({ handle, onread: readsInto.onread() } as net.SocketConstructorOpts);
  holder._handle = null;
  // Without its handle this closes nothing; it only takes the old object off the server's count.
  accepted.destroy();
  socket.setNoDelay(true);
  return { socket, readsInto };
}

function remoteName(socket: net.Socket): Address {
  return formatAddress(socket.remoteAddress ?? '0.0.0.0', socket.remotePort ?? 0);
}

function connectError(address: Address, error: Error): Error {
  return new PeerUnreachableError(`cannot connect to ${address}: ${error.message}`, {
    cause: error,
    remedy: `Check that a node listens on ${address} and that it can be reached from here.`,
  });
}

function tlsError(address: Address, error: Error & { code?: string }): Error {
  const { code = '' } = error;
  // What OpenSSL says at either end when the pre-shared keys differ.
  if (
    /BINDER_DOES_NOT_VERIFY|ILLEGAL_PARAMETER|DECRYPT|BAD_RECORD_MAC|HANDSHAKE_FAILURE|SIGNATURE_ALGORITHM/.test(code)
  ) {
    return new AuthError(`${address} has another cluster key (TLS: ${code})`, {
      cause: error,
      remedy: 'Use the key file of that cluster (--key-file): it must be the same 32 bytes on every machine.',
    });
  }
  return connectError(address, error);
}
