"""Does random file operations in two places and compares what comes of them:

    posix.py REFERENCE MOUNT[,MOUNT...] SEED COUNT [users]

REFERENCE is an empty directory of a filesystem that is right (ext4), the MOUNTs are directories that are the same one. Each
operation is done once in the reference and once through one of the mounts: results, errnos, and whether times of change
have moved must be equal; after every 20 the trees as well, with contents, attributes and extended attributes, through every
mount. With `users` half of the operations are done as other users. Ends with 1 and the history at the first difference.

Left out are what differs by intent: sizes of directories, times of fifos and devices (the kernel keeps those of an open
one), RENAME_WHITEOUT. With several mounts open files are not read, as they show what was there when they were opened, and
the place where an append has ended is not asked, as the kernel of a mount knows only what it has appended itself; fifos and
devices are not opened, as a kernel tells nobody that it has one open; and nothing is copied from an open file to one of another
mount: to the kernel these are two file systems, so it reads the one and writes the other itself.
"""
import ctypes
import errno
import os
import random
import stat
import struct
import sys
from functools import partial

libc = ctypes.CDLL(None, use_errno=True)
reference, mounts, seed, count = sys.argv[1], sys.argv[2].split(','), int(sys.argv[3]), int(sys.argv[4])
AS_USERS = 'users' in sys.argv[5:]
random = random.Random(seed)

NAMES = ['a', 'b', 'c', 'n' * 255, 'long' * 64]
DIRECTORIES = ['.', 'd', 'd/e', 'f', 'd/g']
# uid, gid, supplementary groups
ROOT = (0, 0, [])
USERS = [ROOT, (1000, 1000, [2000]), (1001, 1001, [1000]), (1002, 2000, [])]
ATTRIBUTES = ['user.a', 'user.b', 'trusted.t', 'security.s', 'bad', 'user.', 'user.' + 'x' * 250, 'system.foo']
LISTS = ['system.posix_acl_access', 'system.posix_acl_default']
OFFSETS = [0, 1, 100, 4095, 4096, 5000, 65536, 70000, 200000]
OPEN_FLAGS = {
    os.O_CREAT: 0.6, os.O_EXCL: 0.15, os.O_TRUNC: 0.2, os.O_APPEND: 0.15,
    os.O_NOFOLLOW: 0.1, os.O_DIRECTORY: 0.05, os.O_SYNC: 0.05,
}
HISTORY_SHOWN = 25


def some_acl():
    """An access control list as the kernel takes it: mostly a valid one."""
    permissions = lambda: random.choice([0, 1, 4, 5, 6, 7])
    named = lambda tag, ids: [(tag, permissions(), id) for id in ids if random.random() < 0.4]
    users, groups = named(0x02, [1000, 1001, 1002]), named(0x08, [1000, 2000])
    entries = [(0x01, permissions(), 2**32 - 1), *users, (0x04, permissions(), 2**32 - 1), *groups]
    if users or groups or random.random() < 0.2:
        entries.append((0x10, permissions(), 2**32 - 1))
    entries.append((0x20, permissions(), 2**32 - 1))
    spoilt = random.random()
    if spoilt < 0.05:
        random.shuffle(entries)
    elif spoilt < 0.1:
        entries.pop(random.randrange(len(entries)))
    elif spoilt < 0.13:
        entries = []
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in entries)


class Open:
    """An open file: its descriptor in the reference and on a mount, None while closed; and which mount that is."""

    def __init__(self, path, flags):
        self.path, self.flags, self.fds, self.mount = path, flags, [None, None], None

    def __str__(self):
        return f'fd of {self.path}'


opened = []
history = []


def checked(result):
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def renameat2(source, target, flags):
    checked(libc.renameat2(-100, os.fsencode(source), -100, os.fsencode(target), flags))


def moves(rename, source, target, *flags):
    """
    As mv(1), which looks at both first: the kernel cannot learn that a directory was moved through another mount while it renames
    from one directory to another (d_splice_alias), and says ESTALE.
    """
    try:
        rename(source, target, *flags)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        for path in (source, target):
            os.path.lexists(path)
        rename(source, target, *flags)


def fallocate(fd, mode, offset, length):
    checked(libc.fallocate64(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def some_path():
    if random.random() < 0.15:
        return random.choice(DIRECTORIES)
    return os.path.join(random.choice(DIRECTORIES), random.choice(NAMES))


def some_bytes(length):
    piece = random.randbytes(min(length, 64))
    return piece * (length // len(piece)) if length else b''


def told(found):
    is_directory = stat.S_ISDIR(found.st_mode)
    size = None if is_directory else found.st_size
    owner = (found.st_uid, found.st_gid)
    return (stat.S_IFMT(found.st_mode), shown(found.st_mode), owner, found.st_nlink, size, found.st_rdev)


class Step:
    """What is done to a root directory; `which`: 0 in the reference, 1 on a mount. `touches`: paths whose times matter."""

    def __init__(self, text, do, touches=()):
        self.text, self.do, self.touches = text, do, touches


def at(function, path, *rest, **options):
    """A call of os on one path."""
    return lambda root, which: function(os.path.join(root, path), *rest, **options)


def shown(mode):
    """
    Without a setgid bit that no group execute goes with: when others write, ext4 takes it and the kernel's FUSE leaves it
    (errnos.test.ts compares who does when).
    """
    is_mark = stat.S_ISREG(mode) and mode & stat.S_ISGID and not mode & stat.S_IXGRP
    return oct((mode & ~stat.S_ISGID if is_mark else mode) & 0o7777)


def both(function, path, other, *rest, **options):
    return lambda root, which: function(os.path.join(root, path), os.path.join(root, other), *rest, **options)


def with_parents(*paths):
    return [*paths, *(os.path.dirname(path) for path in paths)]


def is_special(path):
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def open_step():
    path, mode = some_path(), random.choice([0o644, 0o600, 0o755, 0o4755, 0o2711, 0o444, 0])
    flags = random.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]) | os.O_NONBLOCK
    for flag, chance in OPEN_FLAGS.items():
        if random.random() < chance:
            flags |= flag
    if len(mounts) > 1 and is_special(os.path.join(reference, path)):
        return None
    file = Open(path, flags)

    def do(root, which):
        file.fds[which] = os.open(os.path.join(root, path), flags, mode)
        if which == 1:
            file.mount = root
        if file not in opened:
            opened.append(file)
        return told(os.fstat(file.fds[which]))

    return Step(f'open {path} {flags:o} {mode:o}', do, with_parents(path))


def file_step(kind):
    """On an open file."""
    if not opened:
        return None
    file = random.choice(opened)
    fds, offset = file.fds, random.choice(OFFSETS)
    if kind == 'close':
        def close(root, which):
            if file in opened:
                opened.remove(file)
            os.close(fds[which])
        return Step(f'close {file}', close)
    if stat.S_ISDIR(os.fstat(fds[0]).st_mode):
        return None
    if kind == 'write':
        data = some_bytes(random.choice([1, 64, 64, 4096, 65536]))
        return Step(f'pwrite {file} {offset}+{len(data)}', lambda _, which: os.pwrite(fds[which], data, offset), [file.path])
    if kind == 'append':
        data = some_bytes(64)
        def append(root, which):
            written = os.write(fds[which], data)
            return written if len(mounts) > 1 and file.flags & os.O_APPEND else (written, os.lseek(fds[which], 0, os.SEEK_CUR))
        return Step(f'write {file} {len(data)}', append, [file.path])
    if kind == 'read':
        if len(mounts) > 1:
            return None
        length = random.choice([1, 100, 4096, 100000])
        return Step(f'pread {file} {offset}+{length}', lambda _, which: os.pread(fds[which], length, offset))
    if kind == 'ftruncate':
        return Step(f'ftruncate {file} {offset}', lambda _, which: os.ftruncate(fds[which], offset), [file.path])
    if kind == 'fallocate':
        mode, length = random.choice([0, 1, 3, 3, 2, 0x10, 0x11, 0x13]), random.choice([1, 4096, 10000, 0])
        text = f'fallocate {file} {mode} {offset}+{length}'
        return Step(text, lambda _, which: fallocate(fds[which], mode, offset, length), [file.path])
    if kind == 'lseek':
        whence = random.choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])
        return Step(f'lseek {file} {offset} {whence}', lambda _, which: os.lseek(fds[which], offset, whence))
    if kind == 'fstat':
        return Step(f'fstat {file}', lambda _, which: told(os.fstat(fds[which])))
    if kind == 'fchmod':
        mode = random.choice([0o644, 0o4755, 0o2755, 0o1777, 0])
        return Step(f'fchmod {file} {mode:o}', lambda _, which: os.fchmod(fds[which], mode), [file.path])
    if kind == 'copy':
        other, to, length = random.choice(opened), random.choice(OFFSETS), random.choice([10, 5000])
        if file.mount != other.mount:
            return None
        text = f'copy_file_range {file} {other} {length} {offset} {to}'
        return Step(text, lambda _, which: os.copy_file_range(fds[which], other.fds[which], length, offset, to), [other.path])
    return Step(f'fsync {file}', lambda _, which: os.fsync(fds[which]))


def path_step(kind):
    path, other = some_path(), some_path()
    follow = random.random() < 0.5
    if kind == 'mkdir':
        path, mode = random.choice(DIRECTORIES[1:] + [path]), random.choice([0o755, 0o777, 0o1777, 0o2775, 0o700])
        return Step(f'mkdir {path} {mode:o}', at(os.mkdir, path, mode), with_parents(path))
    if kind == 'rmdir':
        return Step(f'rmdir {path}', at(os.rmdir, path), with_parents(path))
    if kind == 'unlink':
        return Step(f'unlink {path}', at(os.unlink, path), with_parents(path))
    if kind == 'rename':
        return Step(f'rename {path} {other}', both(partial(moves, os.rename), path, other), with_parents(path, other))
    if kind == 'renameat2':
        flags = random.choice([1, 2, 3])
        text = f'renameat2 {path} {other} {flags}'
        return Step(text, both(partial(moves, renameat2), path, other, flags), with_parents(path, other))
    if kind == 'link':
        do = both(os.link, path, other, follow_symlinks=follow)
        return Step(f'link {path} {other} {follow}', do, [path, *with_parents(other)])
    if kind == 'symlink':
        target = random.choice(['a', 'd', '../a', 'nowhere', '.', 'b', 'x' * 4000])
        do = lambda root, which: os.symlink(target, os.path.join(root, path))
        return Step(f'symlink {target[:20]} {path}', do, with_parents(path))
    if kind == 'readlink':
        return Step(f'readlink {path}', at(os.readlink, path))
    if kind == 'truncate':
        size = random.choice([0, 1, 5000, 100000, -1])
        return Step(f'truncate {path} {size}', at(os.truncate, path, size), [path])
    if kind == 'chmod':
        mode = random.choice([0o644, 0o600, 0o4755, 0o2755, 0o6777, 0o1777, 0o000, 0o070])
        return Step(f'chmod {path} {mode:o}', at(os.chmod, path, mode), [path])
    if kind == 'chown':
        uid, gid = random.choice([-1, 0, 1000, 1001]), random.choice([-1, 0, 1000, 2000])
        return Step(f'chown {path} {uid} {gid} {follow}', at(os.chown, path, uid, gid, follow_symlinks=follow), [path])
    if kind == 'utime':
        times = random.choice([None, (10**18 + 123456789, 1500000000123456789), (-5 * 10**9 + 1, 1)])
        def utime(root, which):
            now = {} if times is None else {'ns': times}
            os.utime(os.path.join(root, path), **now)
            found = os.stat(os.path.join(root, path))
            return times and (found.st_atime_ns, found.st_mtime_ns)
        return Step(f'utime {path} {times}', utime, [path])
    if kind == 'stat':
        return Step(f'stat {path} {follow}', lambda root, _: told(os.stat(os.path.join(root, path), follow_symlinks=follow)))
    if kind == 'list':
        return Step(f'list {path}', lambda root, _: sorted(os.listdir(os.path.join(root, path))))
    if kind == 'mknod':
        type = random.choice([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG, stat.S_IFCHR, stat.S_IFBLK])
        device = os.makedev(1, 3) if type in (stat.S_IFCHR, stat.S_IFBLK) else 0
        return Step(f'mknod {path} {type:o}', at(os.mknod, path, type | 0o640, device), with_parents(path))
    if kind == 'access':
        wanted = random.choice([os.R_OK, os.W_OK, os.X_OK, os.F_OK])
        return Step(f'access {path} {wanted}', at(os.access, path, wanted, effective_ids=True))
    if kind == 'setacl':
        name, value = random.choice(LISTS), some_acl()
        return Step(f'setacl {path} {name[17:]} {value.hex()}', at(os.setxattr, path, name, value), [path])
    name = random.choice(ATTRIBUTES + LISTS)
    if kind == 'setxattr' and name in LISTS:
        return None
    if kind == 'setxattr':
        value, flags = some_bytes(random.choice([0, 5, 192, 2944])), random.choice([0, 0, 1, 2])
        # The empty value is the only one that may be there already: then ext4 (unlike others) leaves the times.
        timed = [path] if value else []
        return Step(f'setxattr {path} {name[:20]} {len(value)} {flags}', at(os.setxattr, path, name, value, flags), timed)
    if kind == 'getxattr':
        return Step(f'getxattr {path} {name[:20]}', at(os.getxattr, path, name))
    if kind == 'listxattr':
        return Step(f'listxattr {path}', lambda root, _: sorted(os.listxattr(os.path.join(root, path))))
    return Step(f'removexattr {path} {name[:20]}', at(os.removexattr, path, name), [path])


FILE_KINDS = ['write'] * 6 + ['read'] * 3 + ['close'] * 3
FILE_KINDS += ['append', 'ftruncate', 'fallocate', 'lseek', 'fstat', 'fchmod', 'copy', 'fsync']
PATH_KINDS = ['mkdir'] * 3 + ['rename'] * 3 + ['unlink'] * 2
PATH_KINDS += ['rmdir', 'renameat2', 'link', 'symlink', 'readlink', 'truncate', 'chmod', 'chown', 'utime', 'stat', 'list']
PATH_KINDS += ['mknod', 'access', 'access', 'setacl', 'setacl', 'setxattr', 'getxattr', 'listxattr', 'removexattr']


def some_step():
    kind = random.choice(['open'] * 5 + FILE_KINDS + PATH_KINDS)
    if kind == 'open':
        return open_step()
    return file_step(kind) if kind in FILE_KINDS else path_step(kind)


def outcome(step, root, which):
    try:
        return 'done', step.do(root, which)
    except OSError as error:
        return 'refused', errno.errorcode.get(error.errno, error.errno)


def become(user):
    os.seteuid(0)
    os.setegid(user[1])
    os.setgroups(user[2])
    os.seteuid(user[0])


def settle():
    """What is written and not stored gets its times when it is."""
    for file in opened:
        if file.flags & os.O_ACCMODE and stat.S_ISREG(os.fstat(file.fds[1]).st_mode):
            os.fsync(file.fds[1])


def times(root, path):
    try:
        found = os.lstat(os.path.join(root, path))
    except OSError:
        return None
    if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode):
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns
    return None


def moved(before, after):
    """Whether the times have changed, or it came or went."""
    if before is None or after is None or before[0] != after[0]:
        return before is None, after is None
    return before[1] != after[1], before[2] != after[2]


def tree(root):
    found = {}
    for directory, names, files in os.walk(root):
        for path in [directory, *(os.path.join(directory, name) for name in names + files)]:
            status = os.lstat(path)
            content, attributes = None, None
            if stat.S_ISREG(status.st_mode):
                with open(path, 'rb') as file:
                    content = file.read()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            if not stat.S_ISLNK(status.st_mode):
                attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
            found[os.path.relpath(path, root)] = (told(status), content, attributes)
    return found


def where(expected, got):
    """The first place at which two values differ, within tuples and bytes."""
    if isinstance(expected, (tuple, bytes)) and type(expected) is type(got) and len(expected) == len(got):
        for index, (one, other) in enumerate(zip(expected, got)):
            if one != other:
                return f'[{index}]' + where(one, other)
    return f': {str(expected)[:100]} {str(got)[:100]}'


def differs(what, expected, got):
    print(f'different: {what}')
    print(f'  at{where(expected, got)}')
    print(f'  reference {str(expected)[:300]}')
    print(f'  mount     {str(got)[:300]}')
    print('history:', *history[-HISTORY_SHOWN:], sep='\n')
    sys.exit(1)


os.umask(0o022)
done = 0
while done < count:
    step = some_step()
    if step is None:
        continue
    done += 1
    mount = random.choice(mounts)
    user = random.choice(USERS) if AS_USERS and random.random() < 0.5 else ROOT
    roots = (reference, mounts[0])
    settle()
    before = [[times(root, path) for path in step.touches] for root in roots]
    become(user)
    expected, got = outcome(step, reference, 0), outcome(step, mount, 1)
    become(ROOT)
    text = step.text.replace(NAMES[3], 'N').replace(NAMES[4], 'L')
    history.append(f'{done} uid {user[0]} {os.path.basename(os.path.dirname(mount))} {text}: {str(expected)[:60]}')
    if expected != got:
        differs(text, expected, got)
    settle()
    for index, path in enumerate(step.touches):
        changes = [moved(before[which][index], times(root, path)) for which, root in enumerate(roots)]
        if changes[0] != changes[1]:
            differs(f'whether (mtime, ctime) of {path} have moved after {text}', *changes)
    if done % 20 == 0:
        expected = tree(reference)
        for mount in mounts:
            got = tree(mount)
            for path in sorted(set(expected) | set(got)):
                if expected.get(path) != got.get(path):
                    differs(f'{path} in {mount}', expected.get(path), got.get(path))
print(f'{done} operations, no difference')
