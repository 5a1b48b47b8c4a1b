import { describe, expect, it } from 'vitest';
import { helperCall } from './helper-call.ts';
import { parseHelperCall, parseMountOptions, parseMountSource, parseUnmountCall } from './mount-options.ts';

const settings = (list: string) => parseMountOptions(list).settings;

describe('options of mounts', () => {
  it('passes over what is for mount(8) and systemd', () => {
    const list =
      'defaults,auto,noauto,_netdev,nofail,x-systemd.automount,x-systemd.mount-timeout=90,X-mount.mkdir,comment=a,async';
    expect(parseMountOptions(list)).toEqual({ settings: {}, remount: false, noAtime: false, unknown: [] });
    expect(settings('')).toEqual({});
    expect(settings(',,')).toEqual({});
  });

  it('gives the kernel its flags; of two that contradict each other the last counts', () => {
    expect(settings('ro,nosuid,nodev,noexec')).toEqual({ readOnly: true, kernelFlags: ['nosuid', 'nodev', 'noexec'] });
    expect(settings('ro,rw,nosuid,suid')).toEqual({ readOnly: false });
    expect(settings('noatime')).toEqual({});
    expect(settings('atime')).toEqual({ kernelFlags: ['relatime'] });
    expect(settings('relatime,noatime,nodiratime')).toEqual({ kernelFlags: ['nodiratime'] });
  });

  it('lets users mount only without what would give them more rights, unless it is said afterwards', () => {
    expect(settings('user')).toEqual({ kernelFlags: ['noexec', 'nosuid', 'nodev'] });
    expect(settings('users,exec')).toEqual({ kernelFlags: ['nosuid', 'nodev'] });
    expect(settings('owner')).toEqual({ kernelFlags: ['nosuid', 'nodev'] });
    expect(settings('user=alice')).toEqual({ kernelFlags: ['noexec', 'nosuid', 'nodev'] });
  });

  it('knows its own', () => {
    expect(
      settings(
        'subdir=/a b,key_file=/k,log=syslog,cache_memory=512,prefetch=64,cache_dir=/c,cache_size=3,attr_timeout=1.5,metadata_cache=5,timeout=60,compact_after=0,share,share-listen=h:1,no_local_reads,binding=dev-fuse,allow_other,mount_timeout=5',
      ),
    ).toEqual({
      ...{ subdir: '/a b', keyFile: '/k', log: 'syslog', cacheMemory: 512, prefetch: 64, cacheDir: '/c', cacheSize: 3 },
      ...{
        attrTimeoutMs: 1500,
        metadataCache: 5,
        timeout: 60,
        compactAfter: 0,
        share: true,
        shareListen: 'h:1',
        localReads: false,
      },
      ...{ binding: 'dev-fuse', allowOther: true, mountTimeout: 5 },
    });
    expect(settings('subdir="/with,comma",ro')).toEqual({ subdir: '/with,comma', readOnly: true });
    expect(settings('subdir=/a=b')).toEqual({ subdir: '/a=b' });
  });

  it.each([
    ['nonsense', /unknown option nonsense$/],
    ['ro,nonsense=3', /unknown option nonsense$/],
    ['cache_memory=lots', /cache_memory=lots.*from 16 to/],
    ['cache_memory=8', /from 16 to/],
    ['cache_memory', /from 16 to/],
    ['attr_timeout=-1', /number of seconds/],
    ['subdir=', /subdir needs a value/],
    ['share=1', /share takes no value/],
    ['binding=magic', /one of auto/],
    ['strictatime', /not every read changes the access time/],
    ['sync', /programs decide/],
    ['user_id=0', /unknown option user_id/],
  ])('refuses %s', (list, message) => {
    expect(() => parseMountOptions(list)).toThrow(message);
  });

  it('is sloppy where asked', () => {
    expect(parseMountOptions('nonsense=3,ro,lazytime', { sloppy: true })).toEqual({
      ...{ settings: { readOnly: true }, remount: false, noAtime: false, unknown: ['nonsense=3', 'lazytime'] },
    });
  });

  it('takes what the kernel says of a mount when it is mounted anew', () => {
    const list = 'rw,nosuid,noatime,user_id=0,group_id=0,default_permissions,allow_other,max_read=1048576,remount,ro';
    expect(parseMountOptions(list)).toMatchObject({
      remount: true,
      noAtime: true,
      settings: { readOnly: true, kernelFlags: ['nosuid'] },
    });
    expect(parseMountOptions('noatime,remount,relatime').noAtime).toBe(false);
  });
});

it('knows clusters by addresses and by data directories', () => {
  expect(parseMountSource('/srv/tatami')).toEqual({ data: '/srv/tatami' });
  expect(parseMountSource('192.0.2.1:7400')).toEqual({ connect: '192.0.2.1:7400' });
  expect(parseMountSource('a:1,[2001:db8::7]:2')).toEqual({ connect: 'a:1,[2001:db8::7]:2' });
  expect(parseMountSource('a:1,b:2:/projects/x:y')).toEqual({ connect: 'a:1,b:2', subdir: '/projects/x:y' });
  expect(parseMountSource('[2001:db8::7]:2:/')).toEqual({ connect: '[2001:db8::7]:2', subdir: '/' });
  for (const source of ['', 'none', 'host', 'host:', 'host:/path', 'a:1,b', './data', ',']) {
    expect(() => parseMountSource(source), source).toThrow(/no source of tatamifs/);
  }
});

describe('calls', () => {
  it('of mount(8)', () => {
    const usual = { source: 'a:1', directory: '/mnt', options: '', sloppy: false, fake: false, verbose: false };
    expect(parseHelperCall(['a:1', '/mnt'])).toEqual(usual);
    expect(parseHelperCall(['a:1', '/mnt', '-sfnv', '-o', 'rw,nosuid', '-t', 'fuse.tatamifs'])).toEqual({
      ...{ ...usual, options: 'rw,nosuid', sloppy: true, fake: true, verbose: true },
    });
    expect(parseHelperCall(['-r', 'a:1', '/mnt', '-oa', '-o', 'b']).options).toBe('a,b,ro');
    for (const args of [[], ['a:1'], ['a:1', '/mnt', 'more'], ['a:1', '/mnt', '-x'], ['a:1', '/mnt', '-o']]) {
      expect(() => parseHelperCall(args)).toThrow(/usage|unknown option -x|-o needs a value/);
    }
    expect(() => parseHelperCall(['a:1', '/mnt', '-N', '/proc/1/ns/mnt'])).toThrow(/nsenter/);
  });

  it('of umount(8)', () => {
    expect(parseUnmountCall(['/mnt', '-v'])).toEqual({ directory: '/mnt', flags: [], verbose: true });
    expect(parseUnmountCall(['-fl', '/mnt', '-n']).flags).toEqual(['f', 'l']);
    expect(() => parseUnmountCall([])).toThrow(/usage/);
  });

  it('are known by the first word, or by the name of a link', () => {
    expect(helperCall(['node', '/x/main.js', 'mount-helper', 'a', 'b'])).toEqual({
      name: 'mountHelper',
      args: ['a', 'b'],
    });
    expect(helperCall(['node', '/sbin/mount.tatamifs', 'a', 'b'])).toEqual({ name: 'mountHelper', args: ['a', 'b'] });
    expect(helperCall(['node', '/sbin/umount.fuse.tatamifs', 'b'])).toEqual({ name: 'umountHelper', args: ['b'] });
    expect(helperCall(['node', '/usr/bin/tatami', 'mount', 'b'])).toBeUndefined();
    expect(helperCall(['node', '/usr/bin/tatami'])).toBeUndefined();
  });
});
