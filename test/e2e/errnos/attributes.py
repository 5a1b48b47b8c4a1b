"""Calls that look at attributes and change them, and extended attributes."""
import ctypes
import os
import stat
import struct

from support import *

things = only('f', 'd', 'fifo', 'l', 'ld', 'dangling')
file = only('f')

NOFOLLOW, EMPTY_PATH = 0x100, 0x1000
SYS_FCHMODAT2 = 452


def run(results):
    modes(results)
    owners(results)
    times(results)
    access(results)
    stats(results)
    xattrs(results)
    capabilities(results)


def modes(results):
    case = lambda what, act, *rest, **more: results.case('chmod', what, act, *rest, **more)
    path_errors(results, 'chmod', lambda path: os.chmod(path, 0o600))
    for mode in (0o600, 0o4755, 0o2755, 0o1755, 0o2644, 0o7777):
        for type in ('file', 'dir', 'fifo'):
            case(f'{mode:o}, of a {type} of ann', lambda p: os.chmod(p / 'x', mode), lambda p: getattr(p, type)('x', 0o644, ANN),
                 [*USERS, with_caps(FOWNER), with_caps(FOWNER, FSETID), with_caps(DAC_OVERRIDE), ROOT_WITHOUT], then=lambda p: mode_of(p / 'x'))
            if type != 'fifo':
                case(f'{mode:o}, of a {type} of ann, in a group that she is not in', lambda p: os.chmod(p / 'x', mode),
                     lambda p: getattr(p, type)('x', 0o644, ANN, gid=3000), [ROOT, ANN, with_caps(FOWNER)], then=lambda p: mode_of(p / 'x'))
                case(f'{mode:o}, of a {type} of ann, in a further group', lambda p: os.chmod(p / 'x', mode),
                     lambda p: getattr(p, type)('x', 0o644, ANN, gid=2000), [ANN], then=lambda p: mode_of(p / 'x'))
    results.case('fchmod', 'opened for reading', lambda p: os.fchmod(os.open(p / 'f', 0), 0o600), lambda p: p.file('f', 0o666, ANN), USERS)
    results.case('fchmod', 'a bad descriptor', lambda p: os.fchmod(BAD_FD, 0))
    results.case('fchmodat', 'a bad descriptor', lambda p: os.chmod('f', 0, dir_fd=BAD_FD))
    fchmodat2 = lambda path, flags: syscall(SYS_FCHMODAT2, AT_FDCWD, path.encode(), 0o600, flags)
    for name in ('l', 'f', 'dangling'):
        results.case('fchmodat2', f'{name} with AT_SYMLINK_NOFOLLOW', lambda p: fchmodat2(p / name, NOFOLLOW), things)
    results.case('fchmodat2', 'unknown flags', lambda p: fchmodat2(p / 'f', 1), things)


def owners(results):
    path_errors(results, 'chown', lambda path: os.chown(path, 1, 1))
    path_errors(results, 'lchown', lambda path: os.lchown(path, 1, 1), follows=False)
    who = [*USERS, with_caps(CHOWN), with_caps(FOWNER), with_caps(CHOWN, FSETID), ROOT_WITHOUT]
    for uid, gid in ((-1, -1), (1000, -1), (1001, -1), (-1, 1000), (-1, 2000), (-1, 3000), (1000, 2000), (0, 0)):
        for mode in (0o6755, 0o2644):
            for type in ('file', 'dir'):
                results.case('chown', f'to {uid} {gid} of a {type} of ann with {mode:o}', lambda p: os.chown(p / 'x', uid, gid),
                             lambda p: getattr(p, type)('x', mode, ANN), who if mode == 0o6755 else [ROOT, ANN], then=lambda p: owner_of(p / 'x'))
    results.case('lchown', 'a symlink of root', lambda p: os.lchown(p / 'l', 1000, 1000), things, USERS, then=lambda p: owner_of(p / 'l')[:2])
    results.case('fchown', 'a bad descriptor', lambda p: os.fchown(BAD_FD, 0, 0))
    results.case('fchown', 'opened for reading', lambda p: os.fchown(os.open(p / 'f', 0), -1, 2000), lambda p: p.file('f', 0o666, ANN), USERS)
    results.case('fchownat', 'unknown flags', lambda p: checked(libc.fchownat(AT_FDCWD, (p / 'f').encode(), 0, 0, 1)), things)
    results.case('fchownat', 'a bad descriptor', lambda p: os.chown('f', 0, 0, dir_fd=BAD_FD))


def times(results):
    NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2

    def utimensat(path, atime, mtime, flags=0, fd=AT_FDCWD):
        checked(libc.utimensat(fd, path and path.encode(), struct.pack('4q', *atime, *mtime), flags))
    path_errors(results, 'utimensat', lambda path: os.utime(path))
    path_errors(results, 'utimensat of symlinks', lambda path: os.utime(path, follow_symlinks=False), follows=False)
    wanted = {'both given': ((5, 5), (6, 6)), 'both now': ((0, NOW), (0, NOW)), 'both left': ((0, OMIT), (0, OMIT)), 'one now': ((0, NOW), (0, OMIT)),
              'one given': ((0, OMIT), (6, 6)), 'nanoseconds of a second': ((5, 10**9), (5, 5)), 'negative nanoseconds': ((5, -1), (5, 5)),
              'now and given': ((0, NOW), (5, 5)), 'before the epoch': ((-5, 5), (-6, 6))}
    for what, (atime, mtime) in wanted.items():
        for mode in (0o644, 0o666, 0o444):
            results.case('utimensat', f'{what} of a file of ann with {mode:o}', lambda p: utimensat(p / 'f', atime, mtime), lambda p: p.file('f', mode, ANN),
                         [*USERS, with_caps(FOWNER), with_caps(DAC_OVERRIDE)])
    results.case('utimensat', 'before the epoch, as told', lambda p: (utimensat(p / 'f', (-5, 5), (-6, 6)), os.stat(p / 'f').st_mtime_ns), things)
    results.case('utimensat', 'unknown flags', lambda p: utimensat(p / 'f', (5, 5), (5, 5), 1), things)
    results.case('utimensat', 'a bad descriptor', lambda p: utimensat('f', (5, 5), (5, 5), 0, BAD_FD))
    results.case('futimens', 'a bad descriptor', lambda p: utimensat(None, (5, 5), (5, 5), 0, BAD_FD))


def access(results):
    faccessat2 = lambda path, mode, flags=0: syscall(439, AT_FDCWD, path.encode(), mode, flags)
    path_errors(results, 'access', lambda path: faccessat2(path, 0))
    for mode in (0o700, 0o070, 0o007, 0o640, 0o100, 0o001, 0):
        for wanted in (os.R_OK, os.W_OK, os.X_OK, 7):
            for type in ('file', 'dir'):
                results.case('access', f'{wanted} of a {type} of ann with {mode:o}', lambda p: faccessat2(p / 'x', wanted), lambda p: getattr(p, type)('x', mode, ANN), USERS)
    results.case('access', 'an unknown mode', lambda p: faccessat2(p / 'f', 8), things)
    results.case('faccessat2', 'unknown flags', lambda p: faccessat2(p / 'f', 0, 1), things)
    results.case('faccessat2', 'AT_SYMLINK_NOFOLLOW of a loop', lambda p: faccessat2(p / 'l', 0, NOFOLLOW), lambda p: p.link('l', 'l'))
    results.case('faccessat', 'a bad descriptor', lambda p: os.access('f', 0, dir_fd=BAD_FD))


def stats(results):
    told = lambda found: (oct(found.st_mode), found.st_nlink)
    path_errors(results, 'stat', lambda path: told(os.stat(path)))
    path_errors(results, 'lstat', lambda path: told(os.lstat(path)), follows=False)
    path_errors(results, 'statfs', lambda path: os.statvfs(path).f_namemax)
    for name in ('f', 'd', 'l', 'ld', 'dangling', 'fifo', 'ld/', 'f/', 'l/'):
        results.case('stat', name, lambda p: told(os.stat(p / name)), only(name))
        results.case('lstat', name, lambda p: told(os.lstat(p / name)), only(name))
    results.case('stat', 'a bad address', lambda p: checked(libc.stat((p / 'f').encode(), ctypes.c_void_p(1))), things)
    results.case('fstat', 'a bad descriptor', lambda p: os.fstat(BAD_FD))
    results.case('fstatat', 'a bad descriptor', lambda p: os.stat('f', dir_fd=BAD_FD))
    statx = lambda path, flags=0, mask=0x7ff, fd=AT_FDCWD: syscall(332, fd, path.encode(), flags, mask, buffer(256))
    results.case('statx', 'unknown flags', lambda p: statx(p / 'f', 1), things)
    results.case('statx', 'two ways to keep in step', lambda p: statx(p / 'f', 0x6000), things)
    results.case('statx', 'unknown mask', lambda p: statx(p / 'f', 0, 0x80000000), things)
    results.case('statx', 'AT_EMPTY_PATH', lambda p: statx('', EMPTY_PATH, fd=os.open(p / 'f', os.O_PATH)), things)
    for name in ('PC_NAME_MAX', 'PC_PATH_MAX', 'PC_PIPE_BUF', 'PC_SYMLINK_MAX', 'PC_NO_TRUNC', 'PC_CHOWN_RESTRICTED', 'PC_LINK_MAX'):
        results.case('pathconf', name, lambda p: os.pathconf(p.path, name))


def xattrs(results):
    path_errors(results, 'getxattr', lambda path: os.getxattr(path, 'user.a'))
    path_errors(results, 'setxattr', lambda path: os.setxattr(path, 'user.a', b'1'))
    path_errors(results, 'listxattr', lambda path: os.listxattr(path))
    path_errors(results, 'removexattr', lambda path: os.removexattr(path, 'user.a'))
    path_errors(results, 'lgetxattr', lambda path: os.getxattr(path, 'user.a', follow_symlinks=False), follows=False)
    names = ['user.a', 'user.', 'user', 'trusted.a', 'trusted.', 'security.a', 'security.', 'system.a', 'system.', 'other.a', '', '.', 'user.' + 'n' * 250,
             'user.' + 'n' * 251, 'system.posix_acl_access', 'system.posix_acl_default', 'security.capability', 'security.selinux', 'USER.a']

    def setup(of):
        def do(p):
            only(of)(p)
            os.chown(p / of, 1000, 1000, follow_symlinks=False)
            if of != 'l':
                os.chmod(p / of, 0o644 if of != 'd' else 0o1777)
        return do
    for of in ('f', 'd', 'l', 'fifo'):
        for name in names:
            text = f'{name[:30]}{len(name) if len(name) > 30 else ""} of {of}'
            plain = {'follow_symlinks': False}
            results.case('getxattr', text, lambda p: os.getxattr(p / of, name, **plain), setup(of), [ROOT, ANN, BOB])
            results.case('setxattr', text, lambda p: os.setxattr(p / of, name, b'1', **plain), setup(of), [*USERS, with_caps(FOWNER)])
            results.case('removexattr', text, lambda p: os.removexattr(p / of, name, **plain), setup(of), [ROOT, ANN, BOB])
    had = lambda p: (file(p), os.chmod(p / 'f', 0o640), os.chown(p / 'f', 1000, 1000), os.setxattr(p / 'f', 'user.a', b'12345'),
                     os.setxattr(p / 'f', 'trusted.t', b'1'), os.setxattr(p / 'f', 'security.s', b'1'))
    results.case('getxattr', 'what is there', lambda p: os.getxattr(p / 'f', 'user.a'), had, USERS)
    results.case('getxattr', 'a trusted one', lambda p: os.getxattr(p / 'f', 'trusted.t'), had, USERS)
    results.case('getxattr', 'a security one', lambda p: os.getxattr(p / 'f', 'security.s'), had, USERS)
    results.case('listxattr', 'what is there', lambda p: sorted(os.listxattr(p / 'f')), had, USERS)
    results.case('removexattr', 'what is there', lambda p: os.removexattr(p / 'f', 'user.a'), had, USERS)
    for flags in (0, os.XATTR_CREATE, os.XATTR_REPLACE, 3, 4):
        results.case('setxattr', f'what is there with flags {flags}', lambda p: os.setxattr(p / 'f', 'user.a', b'2', flags), had, USERS)
        results.case('setxattr', f'what is not there with flags {flags}', lambda p: os.setxattr(p / 'f', 'user.b', b'2', flags), had)
    get = lambda p, size: checked(libc.getxattr((p / 'f').encode(), b'user.a', buffer(), size))
    list_ = lambda p, size: checked(libc.listxattr((p / 'f').encode(), buffer(), size))
    for size in (0, 4, 5, 6, 100000):
        results.case('getxattr', f'into {size} bytes', lambda p: get(p, size), had)
    for size in (0, 1, 100):
        results.case('listxattr', f'into {size} bytes', lambda p: list_(p, size), had)
    for size in (0, 3000, 65536, 65537):
        results.case('setxattr', f'a value of {size} bytes', lambda p: os.setxattr(p / 'f', 'user.b', b'x' * size), had)
    results.case('setxattr', 'more values than fit', lambda p: [os.setxattr(p / 'f', f'user.{index}', b'x' * 4000) for index in range(300)] and None, had)
    results.case('fgetxattr', 'a bad descriptor', lambda p: os.getxattr(BAD_FD, 'user.a'))
    results.case('fsetxattr', 'opened for reading', lambda p: os.setxattr(os.open(p / 'f', 0), 'user.b', b'1'), had)
    results.case('fsetxattr', 'by who may not write', lambda p: os.setxattr(os.open(p / 'f', 0), 'user.b', b'1'), lambda p: p.file('f', 0o644), [ANN])
    results.case('fgetxattr', 'opened with O_PATH', lambda p: os.getxattr(os.open(p / 'f', os.O_PATH), 'user.a'), had)


def capabilities(results):
    """security.capability goes when a file is changed."""
    value = struct.pack('<5I', 0x02000001, 1, 0, 0, 0)

    def setup(p):
        p.file('f', 0o777)
        p.file('src')
        os.setxattr(p / 'f', 'security.capability', value)
    has = lambda p: 'security.capability' in os.listxattr(p / 'f')
    changes = {'write': lambda p: os.write(os.open(p / 'f', 1), b'x'), 'truncate': lambda p: os.truncate(p / 'f', 1), 'chmod': lambda p: os.chmod(p / 'f', 0o755),
               'chown': lambda p: os.chown(p / 'f', 1000, -1), 'O_TRUNC': lambda p: os.close(os.open(p / 'f', os.O_TRUNC | 1)),
               'fallocate': lambda p: fallocate(os.open(p / 'f', 1), 0, 0, 100), 'utimensat': lambda p: os.utime(p / 'f'),
               'copy_file_range': lambda p: os.copy_file_range(os.open(p / 'src', 0), os.open(p / 'f', 1), 5)}
    for call, act in changes.items():
        results.case(call, 'a file with capabilities', act, setup, [ROOT, ANN], then=has)
