/** A UDP socket of Node as a DatagramSocket. */
import * as dgram from 'node:dgram';
import * as os from 'node:os';
import type { Address, DatagramSocket } from '../env.ts';
import { formatAddress, isLoopbackHost, parseAddress } from './address.ts';

export async function openDatagramSocket(address: Address, options: { broadcast: boolean }): Promise<DatagramSocket> {
  const { host, port } = parseAddress(address);
  const isV6 = host.includes(':');
  // Several nodes of one machine share the port only if each has its own address: no reuseAddr, which would split packets.
  const socket = dgram.createSocket({ type: isV6 ? 'udp6' : 'udp4' });
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ address: host, port, exclusive: true }, () => {
      socket.off('error', reject);
      resolve();
    });
  });
  // Sending to where nobody is (ICMP unreachable) is no error of ours: discovery expects it.
  socket.on('error', () => undefined);
  const mayBroadcast = options.broadcast && !isV6 && !isLoopbackHost(host);
  if (mayBroadcast) socket.setBroadcast(true);
  socket.unref();
  let open = true;
  return {
    address: formatAddress(host, socket.address().port),
    send(packet, to) {
      const target = parseAddress(to);
      if (open) socket.send(packet, target.port, target.host, () => undefined);
    },
    onMessage(receive) {
      socket.removeAllListeners('message');
      socket.on('message', (message, from) => {
        receive(
          new Uint8Array(message.buffer, message.byteOffset, message.length),
          formatAddress(from.address, from.port),
        );
      });
    },
    broadcastAddresses: (toPort) => (mayBroadcast ? broadcastHosts(host).map((to) => formatAddress(to, toPort)) : []),
    close: () =>
      new Promise((resolve) => {
        if (!open) {
          resolve();
          return;
        }
        open = false;
        socket.close(() => {
          resolve();
        });
      }),
  };
}

/** Broadcast addresses of the IPv4 networks that a socket bound to `host` sends from. */
function broadcastHosts(host: string): string[] {
  const hosts = new Set<string>();
  for (const addresses of Object.values(os.networkInterfaces())) {
    for (const { family, internal, address, netmask } of addresses ?? []) {
      if (family !== 'IPv4' || internal || (host !== '0.0.0.0' && host !== address)) continue;
      // Point-to-point links have no broadcast address.
      if (netmask === '255.255.255.255' || netmask === '255.255.255.254') continue;
      const mask = toU32(netmask);
      hosts.add(fromU32((toU32(address) | ~mask) >>> 0));
    }
  }
  return [...hosts];
}

function toU32(dotted: string): number {
  return dotted.split('.').reduce((sum, part) => ((sum << 8) | Number(part)) >>> 0, 0);
}

function fromU32(value: number): string {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join('.');
}
