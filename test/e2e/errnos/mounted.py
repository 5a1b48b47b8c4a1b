"""Where something is mounted: read-only, or in the way. Both by binding a directory of the filesystem itself."""
import os
import subprocess

from support import *
from content import things


def bind(place, name, *options):
    """`name` of the place seen once more, in its directory `at`."""
    os.mkdir(place / 'at')
    subprocess.run(['mount', '--bind', place / name, place / 'at'], check=True)
    if options:
        subprocess.run(['mount', '-o', ','.join(('remount', 'bind', *options)), place / 'at'], check=True)


def run(results):
    def case(call, what, act, setup, users=(ROOT,)):
        for user in users:
            place = results.place()
            setup(place)
            try:
                results.say(call, what, user, results.as_user(user, lambda: act(place)))
            finally:
                subprocess.run(['umount', place / 'at'], check=True)

    def read_only(place):
        place.dir('real')
        inner = Place(place / 'real', place.other)
        things(inner)
        os.chmod(inner / 'f', 0o666)
        bind(place, 'real', 'ro')
    calls = {
        'open O_WRONLY': lambda d: os.open(d + 'f', os.O_WRONLY), 'open O_RDWR': lambda d: os.open(d + 'f', os.O_RDWR), 'open O_RDONLY': lambda d: os.close(os.open(d + 'f', 0)),
        'open O_TRUNC': lambda d: os.open(d + 'f', os.O_TRUNC), 'open O_CREAT': lambda d: os.open(d + 'new', os.O_CREAT), 'open O_CREAT of what is there': lambda d: os.close(os.open(d + 'f', os.O_CREAT)),
        'open O_CREAT|O_EXCL of what is there': lambda d: os.open(d + 'f', os.O_CREAT | os.O_EXCL), 'open O_TMPFILE': lambda d: os.open(d, os.O_TMPFILE | os.O_RDWR),
        'open O_WRONLY of a fifo': lambda d: os.open(d + 'fifo', os.O_RDWR | os.O_NONBLOCK) and None, 'open O_WRONLY of a directory': lambda d: os.open(d + 'd', os.O_WRONLY),
        'truncate': lambda d: os.truncate(d + 'f', 1), 'truncate of a directory': lambda d: os.truncate(d + 'd', 1), 'unlink': lambda d: os.unlink(d + 'f'), 'unlink of what is not there': lambda d: os.unlink(d + 'no'),
        'rmdir': lambda d: os.rmdir(d + 'd'), 'rmdir of what is not there': lambda d: os.rmdir(d + 'no'), 'mkdir': lambda d: os.mkdir(d + 'new'), 'mkdir of what is there': lambda d: os.mkdir(d + 'd'),
        'mknod': lambda d: os.mkfifo(d + 'new'), 'mknod of what is there': lambda d: os.mkfifo(d + 'f'), 'symlink': lambda d: os.symlink('x', d + 'new'), 'symlink of what is there': lambda d: os.symlink('x', d + 'f'),
        'link': lambda d: os.link(d + 'f', d + 'new'), 'link of what is not there': lambda d: os.link(d + 'no', d + 'new'), 'link to what is there': lambda d: os.link(d + 'f', d + 'g'),
        'rename': lambda d: os.rename(d + 'f', d + 'new'), 'rename of what is not there': lambda d: os.rename(d + 'no', d + 'new'), 'chmod': lambda d: os.chmod(d + 'f', 0), 'chown': lambda d: os.chown(d + 'f', 1, 1),
        'utimensat': lambda d: os.utime(d + 'f'), 'setxattr': lambda d: os.setxattr(d + 'f', 'user.a', b''), 'removexattr': lambda d: os.removexattr(d + 'f', 'user.a'), 'getxattr': lambda d: os.getxattr(d + 'f', 'user.a'),
        'access W_OK': lambda d: os.access(d + 'f', os.W_OK) or checked(libc.access((d + 'f').encode(), os.W_OK)), 'access R_OK': lambda d: checked(libc.access((d + 'f').encode(), os.R_OK)),
        'access W_OK of a fifo': lambda d: checked(libc.access((d + 'fifo').encode(), os.W_OK)), 'readlink': lambda d: os.readlink(d + 'l'), 'statfs': lambda d: os.statvfs(d).f_flag & os.ST_RDONLY,
        'fchmod': lambda d: os.fchmod(os.open(d + 'f', 0), 0), 'futimens': lambda d: os.utime(os.open(d + 'f', 0)),
    }
    # None of them changes anything, so one place does for all.
    place = results.place()
    read_only(place)
    try:
        for call, act in calls.items():
            for user in (ROOT, ANN):
                results.say(call, 'read-only', user, results.as_user(user, lambda: act(place / 'at/')))
    finally:
        subprocess.run(['umount', place / 'at'], check=True)

    def in_the_way(place):
        things(place)
        place.dir('real')
        place.file('real/x')
        bind(place, 'real')
    for call, act in {
        'rmdir': lambda p: os.rmdir(p / 'at'), 'unlink': lambda p: os.unlink(p / 'at'), 'rename': lambda p: os.rename(p / 'at', p / 'new'), 'rename over it': lambda p: os.rename(p / 'd', p / 'at'),
        'rename a file over it': lambda p: os.rename(p / 'f', p / 'at'), 'rename out of it': lambda p: os.rename(p / 'at/x', p / 'x'), 'rename into it': lambda p: os.rename(p / 'f', p / 'at/f'),
        'link into it': lambda p: os.link(p / 'f', p / 'at/f'), 'exchange with it': lambda p: renameat2(p / 'd', p / 'at', 2), 'rmdir of what is mounted there': lambda p: os.rmdir(p / 'real'),
        'rename of what is mounted there': lambda p: os.rename(p / 'real', p / 'new'), 'mkdir over it': lambda p: os.mkdir(p / 'at'),
    }.items():
        case(call, 'a mount point', act, in_the_way)

    def no_programs(place):
        things(place)
        place.dir('real')
        place.file('real/x', 0o755, content=b'#!/bin/sh\n')
        os.mknod(place / 'real/null', 0o020666, os.makedev(1, 3))
        bind(place, 'real', 'noexec', 'nodev')
    case('execve', 'noexec', lambda p: os.execv(p / 'at/x', ['x']), no_programs)
    case('open', 'a device where there are none', lambda p: os.open(p / 'at/null', 0), no_programs)
    case('access', 'X_OK where noexec', lambda p: checked(libc.access((p / 'at/x').encode(), os.X_OK)), no_programs)
