"""Calls that open files, read and write them, and lock them."""
import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import struct
import subprocess

from support import *

INT64_MAX = 2**63 - 1
FLAGS = {'RDONLY': os.O_RDONLY, 'WRONLY': os.O_WRONLY, 'RDWR': os.O_RDWR, 'mode 3': 3}


def fd_of(name, flags=os.O_RDWR, mode=0o644):
    return lambda p: os.open(p / name, flags, mode)


def on_fd(name, flags, act):
    return lambda p: act(os.open(p / name, flags))


things = only('f', 'g', 'd', 'fifo', 'l', 'ld', 'dangling')
file = only('f')


def run(results):
    opens(results)
    executes(results)
    reads_and_writes(results)
    sizes(results)
    copies(results)
    maps(results)
    locks(results)


def opens(results):
    case = lambda what, act, *rest, **more: results.case('open', what, act, *rest, **more)
    do = lambda path, flags, mode=0o644: os.close(os.open(path, flags, mode))
    path_errors(results, 'open', lambda path: do(path, os.O_RDONLY))
    path_errors(results, 'open O_CREAT', lambda path: do(path, os.O_CREAT | os.O_WRONLY), creates=True)
    for name in ('f', 'd', 'l', 'ld', 'dangling', 'new', 'fifo', 'd/', 'new/', '.', 'f/'):
        for how, access in list(FLAGS.items())[:3]:
            for more, flags in {'': 0, 'CREAT': os.O_CREAT, 'CREAT|EXCL': os.O_CREAT | os.O_EXCL, 'TRUNC': os.O_TRUNC, 'APPEND': os.O_APPEND,
                                'DIRECTORY': os.O_DIRECTORY, 'NOFOLLOW': os.O_NOFOLLOW, 'CREAT|DIRECTORY': os.O_CREAT | os.O_DIRECTORY,
                                'PATH': os.O_PATH, 'SYNC': os.O_SYNC}.items():
                case(f'{name} {how}|{more}', lambda p: do(p / name, access | flags | os.O_NONBLOCK), only(name))
    for mode in (0o400, 0o200, 0o600, 0o040, 0o020, 0o060, 0o004, 0o002, 0o006, 0o077, 0):
        for how, access in FLAGS.items():
            case(f'mode {mode:o} of ann for {how}', lambda p: do(p / 'f', access), lambda p: p.file('f', mode, ANN),
                 [*USERS, with_caps(DAC_OVERRIDE), with_caps(DAC_READ_SEARCH), ROOT_WITHOUT])
        case(f'mode {mode:o} of ann with TRUNC', lambda p: do(p / 'f', os.O_RDONLY | os.O_TRUNC), lambda p: p.file('f', mode, ANN), USERS)
        case(f'mode {mode:o} of ann, a directory', lambda p: do(p / 'd', os.O_RDONLY), lambda p: p.dir('d', mode, ANN), USERS)
    case('O_NOATIME', lambda p: do(p / 'f', os.O_NOATIME), lambda p: p.file('f', 0o666, ANN), [*USERS, with_caps(FOWNER)])
    for mode in (0o1777, 0o1775):
        for type in ('file', 'fifo'):
            case(f'O_CREAT of what is there, a {type} of ann in a sticky directory with {mode:o}',
                 lambda p: do(p / 's/x', os.O_CREAT | os.O_RDWR | os.O_NONBLOCK),
                 lambda p: (p.dir('s', mode, ROOT, 1000), getattr(p, type)('s/x', 0o666, ANN)), USERS)
    for name in ('sock', 'null', 'none'):
        def special(p):
            type, device = {'sock': (0o140000, 0), 'null': (0o020000, os.makedev(1, 3)), 'none': (0o020000, os.makedev(240, 77))}[name]
            os.mknod(p / name, type | 0o666, device)
        for how, access in FLAGS.items():
            case(f'{name} {how}', lambda p: do(p / name, access), special, [ROOT, ANN])
    case('O_DIRECT', lambda p: do(p / 'f', os.O_DIRECT), things)
    results.case('openat', 'a bad descriptor', lambda p: os.open('f', 0, dir_fd=BAD_FD))
    results.case('openat', 'below a file', lambda p: os.open('f', 0, dir_fd=os.open(p / 'f', 0)), things)
    results.case('openat', 'below an O_PATH directory', lambda p: os.close(os.open('f', 0, dir_fd=os.open(p.path, os.O_PATH))), things)
    results.case('open', 'a file of others after permission was taken', after(lambda p: os.chmod(p / 'f', 0)), things)
    for kind in ('chdir', 'listdir', 'scandir'):
        act = {'chdir': os.chdir, 'listdir': lambda path: len(os.listdir(path)), 'scandir': lambda path: os.scandir(path).close()}[kind]
        path_errors(results, kind, act)
        for mode in (0o700, 0o600, 0o100, 0o500, 0o055):
            results.case(kind, f'mode {mode:o} of ann', lambda p: act(p / 'd'), lambda p: p.dir('d', mode, ANN), [*USERS, with_caps(DAC_READ_SEARCH)])
    results.case('fchdir', 'a file', on_fd('f', 0, os.fchdir), things)
    results.case('fchdir', 'a directory without search permission', lambda p: os.fchdir(os.open(p / 'd', 0)), lambda p: p.dir('d', 0o444), USERS)
    getdents = lambda fd, size=4096: checked(libc.syscall(217, fd, buffer(4096), size)) > 0
    results.case('getdents', 'a file', on_fd('f', 0, getdents), things)
    results.case('getdents', 'a bad descriptor', lambda p: getdents(BAD_FD))
    results.case('getdents', 'too small a buffer', lambda p: getdents(os.open(p.path, 0), 8), things)
    results.case('getdents', 'a bad address', lambda p: checked(libc.syscall(217, os.open(p.path, 0), ctypes.c_void_p(1), 4096)), things)
    results.case('getdents', 'a removed directory', lambda p: removed_listing(p, getdents))


def removed_listing(p, getdents):
    os.mkdir(p / 'gone')
    fd = os.open(p / 'gone', 0)
    os.rmdir(p / 'gone')
    return getdents(fd)


def after(change):
    def act(p):
        fd = os.open(p / 'f', os.O_RDWR)
        change(p)
        return os.write(fd, b'1'), os.pread(fd, 1, 0)
    return act


def executes(results):
    def script(mode=0o755, text=b'#!/bin/sh\nexit 7\n', owner=ROOT):
        return lambda p: p.file('f', mode, owner, text)

    def execute(p, name='f'):
        """Its exit code."""
        pid = os.fork()
        if pid == 0:
            try:
                os.execv(p / name, ['f'])
            except OSError as error:
                os._exit(100 + error.errno)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code > 100:
            raise OSError(code - 100, '')
        return code
    for mode in (0o755, 0o644, 0o700, 0o711, 0o050, 0o001):
        results.case('execve', f'mode {mode:o} of ann', execute, script(mode, owner=ANN), [*USERS, with_caps(DAC_OVERRIDE)])
    results.case('execve', 'no program', execute, script(text=b'\0\1\2'))
    results.case('execve', 'an interpreter that is not there', execute, script(text=b'#!/missing\n'))
    results.case('execve', 'an empty file', execute, script(text=b''))
    results.case('execve', 'a directory', lambda p: execute(p, 'd'), things)
    results.case('execve', 'open for writing', lambda p: (os.open(p / 'f', os.O_WRONLY), execute(p)), script())
    program = lambda p: shutil.copy('/usr/bin/cat', p / 'f')

    def running(act):
        def do(p):
            child = subprocess.Popen([p / 'f'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            try:
                # It is past its start, and waits: while it starts it may die of what is done to its file.
                child.stdin.write(b'x')
                child.stdout.read(1)
                return act(p)
            finally:
                child.kill()
                child.communicate()
        return do
    results.case('open', 'a running program for writing', running(lambda p: os.close(os.open(p / 'f', os.O_WRONLY))), program)
    results.case('open', 'a running program with O_TRUNC', running(lambda p: os.close(os.open(p / 'f', os.O_TRUNC))), program)
    results.case('truncate', 'a running program', running(lambda p: os.truncate(p / 'f', 0)), program)
    results.case('unlink', 'a running program', running(lambda p: os.unlink(p / 'f')), program)
    results.case('access', 'W_OK of a running program', running(lambda p: os.access(p / 'f', os.W_OK)), program)
    for mode in (0o4755, 0o2755, 0o6711):
        def identity(p):
            shutil.copy('/usr/bin/id', p / 'f')
            p.own('f', mode, BOB)
        results.case('execve', f'mode {mode:o} of bob', lambda p: subprocess.run([p / 'f', '-un' if mode & 0o4000 else '-g'],
                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout, identity, USERS)


def reads_and_writes(results):
    for how, flags in {**FLAGS, 'PATH': os.O_PATH, 'APPEND': os.O_RDWR | os.O_APPEND}.items():
        for name in ('f', 'fifo'):
            if name == 'fifo' and how == 'WRONLY':
                continue
            calls = {
                'read': lambda fd: os.read(fd, 3), 'pread': lambda fd: os.pread(fd, 3, 1), 'readv': lambda fd: os.readv(fd, [bytearray(3)]),
                'write': lambda fd: os.write(fd, b'abc'), 'pwrite': lambda fd: os.pwrite(fd, b'abc', 1), 'writev': lambda fd: os.writev(fd, [b'a', b'b']),
                'write of nothing': lambda fd: os.write(fd, b''), 'read of nothing': lambda fd: os.read(fd, 0),
                'pread before the start': lambda fd: os.pread(fd, 3, -1), 'pwrite before the start': lambda fd: os.pwrite(fd, b'abc', -1),
                'pread at the greatest offset': lambda fd: os.pread(fd, 3, INT64_MAX), 'pwrite at the greatest offset': lambda fd: os.pwrite(fd, b'abc', INT64_MAX),
                'pread at nearly the greatest offset': lambda fd: os.pread(fd, 3, INT64_MAX - 4096),
                'read to a bad address': lambda fd: checked(libc.read(fd, ctypes.c_void_p(1), 3)),
                'write from a bad address': lambda fd: checked(libc.write(fd, ctypes.c_void_p(1), 3)),
                'read of a negative length': lambda fd: checked(libc.read(fd, buffer(), ctypes.c_long(-1))),
                'preadv2 with unknown flags': lambda fd: os.preadv(fd, [bytearray(3)], 0, 1 << 30),
                'fsync': os.fsync, 'fdatasync': os.fdatasync, 'syncfs': lambda fd: checked(libc.syncfs(fd)),
                'sync_file_range': lambda fd: checked(libc.sync_file_range(fd, ctypes.c_long(0), ctypes.c_long(0), 0)),
                'sync_file_range with unknown flags': lambda fd: checked(libc.sync_file_range(fd, ctypes.c_long(0), ctypes.c_long(0), 99)),
                'lseek': lambda fd: os.lseek(fd, 3, 0), 'lseek before the start': lambda fd: os.lseek(fd, -1, 0),
                'lseek before the start from the end': lambda fd: os.lseek(fd, -99, 2), 'lseek of an unknown kind': lambda fd: os.lseek(fd, 0, 9),
                'lseek over the greatest offset': lambda fd: os.lseek(fd, 10, 0) and os.lseek(fd, INT64_MAX, 1),
                'lseek SEEK_DATA': lambda fd: os.lseek(fd, 2, os.SEEK_DATA), 'lseek SEEK_DATA at the end': lambda fd: os.lseek(fd, 7, os.SEEK_DATA),
                'lseek SEEK_HOLE': lambda fd: os.lseek(fd, 2, os.SEEK_HOLE), 'lseek SEEK_HOLE at the end': lambda fd: os.lseek(fd, 7, os.SEEK_HOLE),
                'lseek SEEK_DATA before the start': lambda fd: os.lseek(fd, -1, os.SEEK_DATA),
                'ftruncate': lambda fd: os.ftruncate(fd, 3), 'ftruncate to less than nothing': lambda fd: os.ftruncate(fd, -1),
                'fallocate': lambda fd: fallocate(fd, 0, 0, 10), 'fallocate of nothing': lambda fd: fallocate(fd, 0, 0, 0),
                'fallocate before the start': lambda fd: fallocate(fd, 0, -1, 10), 'fallocate over the greatest offset': lambda fd: fallocate(fd, 0, INT64_MAX, 10),
                'fallocate PUNCH_HOLE': lambda fd: fallocate(fd, 3, 0, 10), 'fallocate PUNCH_HOLE alone': lambda fd: fallocate(fd, 2, 0, 10),
                'fallocate KEEP_SIZE': lambda fd: fallocate(fd, 1, 0, 100), 'fallocate ZERO_RANGE': lambda fd: fallocate(fd, 16, 0, 10),
                'fallocate of an unknown kind': lambda fd: fallocate(fd, 0x4000, 0, 10), 'posix_fallocate': lambda fd: os.posix_fallocate(fd, 0, 10),
                'fallocate COLLAPSE_RANGE and KEEP_SIZE': lambda fd: fallocate(fd, 9, 0, 4096), 'fadvise': lambda fd: os.posix_fadvise(fd, 0, 0, 0),
                'fadvise of an unknown kind': lambda fd: os.posix_fadvise(fd, 0, 0, 99), 'fchmod': lambda fd: os.fchmod(fd, 0o600),
                'fchown': lambda fd: os.fchown(fd, 1, 1), 'futimens': lambda fd: os.utime(fd), 'fstat': lambda fd: os.fstat(fd).st_size,
                'fstatfs': lambda fd: os.fstatvfs(fd).f_namemax, 'fgetxattr': lambda fd: os.getxattr(fd, 'user.a'),
                'fsetxattr': lambda fd: os.setxattr(fd, 'user.a', b'1'), 'fchdir': os.fchdir, 'FIONREAD': lambda fd: fcntl.ioctl(fd, 0x541B, b'\0' * 4) and None,
                'ioctl of an unknown kind': lambda fd: fcntl.ioctl(fd, 0x12345678),
            }
            for call, act in calls.items():
                open_it = lambda p: os.open(p / name, flags | os.O_NONBLOCK)
                results.case(call, f'{name} opened {how}', lambda p: act(open_it(p)), lambda p: p.file('f') if name == 'f' else p.fifo('fifo'))
    for call in ('read', 'write', 'fsync', 'lseek', 'ftruncate', 'pread'):
        rest = {'read': (1,), 'write': (b'1',), 'fsync': (), 'lseek': (0, 0), 'ftruncate': (0,), 'pread': (1, 0)}[call]
        results.case(call, 'a bad descriptor', lambda p: getattr(os, call)(BAD_FD, *rest))
        results.case(call, 'a directory', lambda p: call != 'lseek' and getattr(os, call)(os.open(p / 'd', 0), *rest), things)
    results.case('write', 'over the limit of the process', lambda p: limited(10, lambda: os.pwrite(os.open(p / 'f', 1), b'abc', 10)), things)
    results.case('write', 'across the limit of the process', lambda p: limited(10, lambda: os.pwrite(os.open(p / 'f', 1), b'abc', 8)), things)
    results.case('ftruncate', 'over the limit of the process', lambda p: limited(10, lambda: os.ftruncate(os.open(p / 'f', 1), 11)), things)
    results.case('truncate', 'over the limit of the process', lambda p: limited(10, lambda: os.truncate(p / 'f', 11)), things)
    results.case('fallocate', 'over the limit of the process', lambda p: limited(10, lambda: fallocate(os.open(p / 'f', 1), 0, 5, 10)), things)
    results.case('write', 'a fifo without a reader', lambda p: broken_pipe(p), things)
    results.case('read', 'an empty fifo that has a writer', lambda p: os.read(both_ends(p)[0], 1), things)
    results.case('write', 'a full fifo', lambda p: [os.write(both_ends(p)[1], b'x' * 65536) for _ in range(2)], things)
    results.case('open', 'a fifo for writing that nobody reads', lambda p: os.open(p / 'fifo', os.O_WRONLY | os.O_NONBLOCK), things)
    for users_mode in (0o4777, 0o6777, 0o2777, 0o2767, 0o6767):
        for call, act in {'write': lambda p: os.write(os.open(p / 'f', 1), b'x'), 'truncate': lambda p: os.truncate(p / 'f', 1),
                          'ftruncate to the same size': lambda p: os.ftruncate(os.open(p / 'f', 1), 7), 'O_TRUNC': lambda p: os.close(os.open(p / 'f', os.O_TRUNC | 1)),
                          'write of nothing': lambda p: os.write(os.open(p / 'f', 1), b''), 'fallocate': lambda p: fallocate(os.open(p / 'f', 1), 0, 0, 100),
                          'copy_file_range': lambda p: os.copy_file_range(os.open(p / 'src', 0), os.open(p / 'f', 1), 5)}.items():
            results.case(call, f'sets of mode {users_mode:o}', act, lambda p: (p.file('f', users_mode), p.file('src')),
                         [ROOT, ANN, with_caps(FSETID), ROOT_WITHOUT], then=lambda p: mode_of(p / 'f'))


def both_ends(p):
    reader = os.open(p / 'fifo', os.O_RDONLY | os.O_NONBLOCK)
    return reader, os.open(p / 'fifo', os.O_WRONLY | os.O_NONBLOCK)


def broken_pipe(p):
    reader, writer = both_ends(p)
    os.close(reader)
    return os.write(writer, b'x')


def sizes(results):
    path_errors(results, 'truncate', lambda path: os.truncate(path, 1))
    for name in ('d', 'fifo', 'l', 'ld', 'f/'):
        results.case('truncate', name, lambda p: os.truncate(p / name, 1), things)
    results.case('truncate', 'to less than nothing', lambda p: os.truncate(p / 'f', -1), things)
    results.case('truncate', 'to the greatest size', lambda p: os.truncate(p / 'f', INT64_MAX), things)
    results.case('ftruncate', 'to the greatest size', lambda p: os.ftruncate(os.open(p / 'f', 1), INT64_MAX), things)
    for mode in (0o600, 0o444, 0o066, 0o020, 0o002):
        results.case('truncate', f'mode {mode:o} of ann', lambda p: os.truncate(p / 'f', 1), lambda p: p.file('f', mode, ANN), [*USERS, with_caps(DAC_OVERRIDE)])


def copies(results):
    copy = lambda a, b, length=5, **at: lambda p: os.copy_file_range(os.open(p / a[0], a[1]), os.open(p / b[0], b[1]), length, **at)
    R, W, A = os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_APPEND
    case = lambda what, act, *rest, **more: results.case('copy_file_range', what, act, *rest, **more)
    for a, b in ((('f', R), ('g', W)), (('f', W), ('g', W)), (('f', R), ('g', R)), (('f', R), ('g', A)), (('d', R), ('g', W)), (('f', R), ('d', R)),
                 (('f', os.O_PATH), ('g', W)), (('f', R), ('g', os.O_PATH)), (('l', R), ('g', W))):
        case(f'{a} to {b}', copy(a, b), things)
    nonblocking = os.O_RDWR | os.O_NONBLOCK
    case('from a fifo', copy(('fifo', nonblocking), ('g', W)), things)
    case('to a fifo', copy(('f', R), ('fifo', nonblocking)), things)
    f, g, both = ('f', R), ('g', W), ('g', os.O_RDWR)
    case('nothing', copy(f, g, 0), things)
    case('from behind the end', copy(f, g, offset_src=100), things)
    case('over the end', copy(f, g, 100, offset_src=3), things)
    case('within a file', copy(both, both, 100, offset_src=0, offset_dst=5000), things)
    case('overlapping', copy(both, both, 100, offset_src=0, offset_dst=50), things)
    case('onto itself', copy(both, both, 100, offset_src=0, offset_dst=0), things)
    case('from before the start', copy(f, g, offset_src=-1), things)
    case('to before the start', copy(f, g, offset_dst=-1), things)
    case('to the greatest offset', copy(f, g, offset_dst=INT64_MAX - 2), things)
    case('from the greatest offset', copy(f, g, offset_src=INT64_MAX - 2), things)
    case('over the limit of the process', lambda p: limited(10, lambda: copy(f, g, offset_dst=10)(p)), things)
    case('a bad descriptor', lambda p: os.copy_file_range(BAD_FD, BAD_FD, 1))
    case('unknown flags', lambda p: checked(libc.copy_file_range(os.open(p / 'f', 0), None, os.open(p / 'g', 1), None, 5, 1)), things)
    results.case('FICLONE', 'a file', lambda p: fcntl.ioctl(os.open(p / 'g', os.O_WRONLY), 0x40049409, os.open(p / 'f', 0)), things)


def maps(results):
    protections = {'READ': mmap.PROT_READ, 'WRITE': mmap.PROT_WRITE, 'EXEC': mmap.PROT_EXEC | mmap.PROT_READ}
    kinds = {'SHARED': mmap.MAP_SHARED, 'PRIVATE': mmap.MAP_PRIVATE, 'neither': 0, 'SHARED_VALIDATE|unknown': 3 | 1 << 26}
    map_ = libc.mmap
    map_.restype = ctypes.c_void_p
    map_.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]

    def act(fd, protection, kind, length=4096, offset=0):
        if map_(None, length, protection, kind, fd, offset) == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), '')
    for how, access in FLAGS.items():
        for prot, protection in protections.items():
            for name, kind in kinds.items():
                results.case('mmap', f'{prot} {name} of what is opened {how}', lambda p: act(os.open(p / 'f', access), protection, kind), file)
    results.case('mmap', 'a directory', lambda p: act(os.open(p / 'd', 0), 1, 1), only('f', 'd', 'fifo'))
    results.case('mmap', 'a fifo', lambda p: act(os.open(p / 'fifo', os.O_RDWR | os.O_NONBLOCK), 1, 1), only('f', 'd', 'fifo'))
    results.case('mmap', 'a bad descriptor', lambda p: act(BAD_FD, 1, 1))
    results.case('mmap', 'nothing', lambda p: act(os.open(p / 'f', 0), 1, 1, 0), only('f', 'd', 'fifo'))
    results.case('mmap', 'from within a page', lambda p: act(os.open(p / 'f', 0), 1, 1, 4096, 100), only('f', 'd', 'fifo'))
    results.case('mmap', 'over the greatest offset', lambda p: act(os.open(p / 'f', 0), 1, 1, 4096, INT64_MAX - 4095), only('f', 'd', 'fifo'))
    results.case('mmap', 'opened with O_PATH', lambda p: act(os.open(p / 'f', os.O_PATH), 1, 1), only('f', 'd', 'fifo'))


def locks(results):
    posix = lambda type, start=0, length=0, whence=0, pid=0: struct.pack('hhqqi4x', type, whence, start, length, pid)
    READ, WRITE, UNLOCK = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
    SETLK, SETLKW, GETLK, OFD_GETLK, OFD_SETLK = fcntl.F_SETLK, fcntl.F_SETLKW, fcntl.F_GETLK, 36, 37
    case = lambda what, act, *rest, **more: results.case('fcntl', what, act, *rest, **more)
    set_ = lambda fd, command, lock: fcntl.fcntl(fd, command, lock) and None
    for how, access in {**FLAGS, 'PATH': os.O_PATH}.items():
        for name, type in (('read', READ), ('write', WRITE), ('unlock', UNLOCK)):
            for kind, command in (('SETLK', SETLK), ('SETLKW', SETLKW), ('OFD_SETLK', OFD_SETLK)):
                case(f'{kind} {name} opened {how}', lambda p: set_(os.open(p / 'f', access), command, posix(type)), file)
            for operation in (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN):
                if type == READ:
                    results.case('flock', f'{operation} opened {how}', lambda p: fcntl.flock(os.open(p / 'f', access), operation), file)
    bad = {'unknown type': posix(9), 'unknown whence': posix(READ, whence=9), 'before the start': posix(READ, -1), 'a length before the start': posix(READ, 5, -6),
           'a negative length': posix(READ, 5, -5), 'over the greatest offset': posix(READ, INT64_MAX, 5), 'from the end': posix(READ, 1, 1, 2),
           'before the start from the end': posix(READ, -100, 1, 2)}
    for what, lock in bad.items():
        case(what, lambda p: set_(os.open(p / 'f', 2), SETLK, lock), file)
        case(f'GETLK {what}', lambda p: set_(os.open(p / 'f', 2), GETLK, lock), file)
    case('OFD_SETLK with a process', lambda p: set_(os.open(p / 'f', 2), OFD_SETLK, posix(READ, pid=5)), file)
    case('a bad descriptor', lambda p: set_(BAD_FD, SETLK, posix(READ)))
    case('a directory', lambda p: set_(os.open(p / 'd', 0), SETLK, posix(READ)), only('d'))
    case('a fifo', lambda p: set_(os.open(p / 'fifo', os.O_RDWR | os.O_NONBLOCK), SETLK, posix(READ)), only('fifo'))
    results.case('flock', 'a bad descriptor', lambda p: fcntl.flock(BAD_FD, fcntl.LOCK_SH))
    results.case('flock', 'an unknown operation', lambda p: fcntl.flock(os.open(p / 'f', 0), 77), file)
    results.case('flock', 'a directory', lambda p: fcntl.flock(os.open(p / 'd', 0), fcntl.LOCK_EX), only('d'))

    def beside(first, then):
        """`first` in another process, which stays; what `then` comes to here."""
        def act(p):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                fd = os.open(p / 'f', os.O_RDWR)
                first(fd)
                os.write(writer, b'1')
                signal.pause()
            os.read(reader, 1)
            try:
                return then(os.open(p / 'f', os.O_RDWR))
            finally:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
        return act
    for kind, command in (('SETLK', SETLK), ('OFD_SETLK', OFD_SETLK)):
        for a, first in (('read', READ), ('write', WRITE)):
            for b, second in (('read', READ), ('write', WRITE), ('unlock', UNLOCK)):
                case(f'{kind} {b} beside {a}', beside(lambda fd: set_(fd, command, posix(first, 2, 5)), lambda fd: set_(fd, command, posix(second))), file)
            get = lambda fd: struct.unpack('hhqqi4x', fcntl.fcntl(fd, GETLK, posix(WRITE)))[:4]
            case(f'GETLK beside {kind} {a}', beside(lambda fd: set_(fd, command, posix(first, 2, 5)), get), file)
    for a, first in (('SH', fcntl.LOCK_SH), ('EX', fcntl.LOCK_EX)):
        for b, second in (('SH', fcntl.LOCK_SH), ('EX', fcntl.LOCK_EX)):
            results.case('flock', f'{b} beside {a}', beside(lambda fd: fcntl.flock(fd, first), lambda fd: fcntl.flock(fd, second | fcntl.LOCK_NB)), file)
        results.case('flock', f'beside fcntl {a}', beside(lambda fd: set_(fd, SETLK, posix(WRITE)), lambda fd: fcntl.flock(fd, first | fcntl.LOCK_NB)), file)

    def dead(p):
        """Two processes wait for each other: one is refused, and which one does not matter."""
        fd = os.open(p / 'f', os.O_RDWR)
        set_(fd, SETLK, posix(WRITE, 0, 1))
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            set_(fd, SETLK, posix(WRITE, 1, 1))
            os.write(writer, b'1')
            os._exit(['ok', 'EDEADLK'].index(outcome(lambda: set_(fd, SETLKW, posix(WRITE, 0, 1)))))
        os.read(reader, 1)
        own = outcome(lambda: set_(fd, SETLKW, posix(WRITE, 1, 1)))
        set_(fd, SETLK, posix(UNLOCK))
        other = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return sorted([own, ['ok', 'EDEADLK'][other]])
    case('SETLKW where each waits for the other', dead, file)
