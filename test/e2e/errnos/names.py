"""Calls that make, find, move and remove names."""
import ctypes
import os
import socket
import stat

from support import *

STICKY = 0o1777


def sticky(owner_of_directory, owner_of_file, is_directory=False):
    """A sticky directory of the one with something in it of the other."""
    def setup(place):
        place.dir('s', STICKY, owner_of_directory)
        (place.dir if is_directory else place.file)('s/x', 0o777, owner_of_file)
        place.file('s/bobs', 0o666, BOB)
        place.dir('open', 0o777)
    return setup


def unwritable(place):
    place.dir('u', 0o555, ANN)
    place.file('u/file', 0o666, ANN)
    place.dir('u/dir', 0o777, ANN)
    place.dir('open', 0o777)
    place.file('open/mine', 0o666, ANN)


def run(results):
    unlink_and_rmdir(results)
    make(results)
    rename(results)
    link(results)
    symlinks(results)


def unlink_and_rmdir(results):
    for call, act in (('unlink', os.unlink), ('rmdir', os.rmdir)):
        case = lambda what, act, *rest, **more: results.case(call, what, act, *rest, **more)
        path_errors(results, call, act, follows=False)
        case('a file', lambda p: act(p / 'f'), lambda p: p.file('f'))
        case('a directory', lambda p: act(p / 'd'), lambda p: p.dir('d'))
        case('a directory with a slash', lambda p: act(p / 'd/'), lambda p: p.dir('d'))
        case('a full directory', lambda p: act(p / 'd'), lambda p: (p.dir('d'), p.file('d/f')))
        case('a symlink to a directory', lambda p: act(p / 'l'), lambda p: (p.dir('d'), p.link('l', 'd')))
        case('one with a slash', lambda p: act(p / 'l/'), lambda p: (p.dir('d'), p.link('l', 'd')))
        case('a loop', lambda p: act(p / 'l'), lambda p: p.link('l', 'l'))
        case('.', lambda p: act(p / 'd/.'), lambda p: p.dir('d'))
        case('..', lambda p: act(p / 'd/..'), lambda p: p.dir('d'))
        case('where one may not write', lambda p: act(p / 'u/file'), unwritable, USERS)
        case('where one may not write, a directory', lambda p: act(p / 'u/dir'), unwritable, USERS)
        for owner in (ROOT, ANN):
            for of_file in (ROOT, ANN, BOB):
                what = f'in a sticky directory of {owner.name}, of {of_file.name}'
                case(what, lambda p: act(p / 's/x'), sticky(owner, of_file, call == 'rmdir'),
                     [*USERS, with_caps(FOWNER), with_caps(DAC_OVERRIDE), ROOT_WITHOUT])
        case('with DAC_OVERRIDE', lambda p: act(p / 'u/file'), unwritable, [with_caps(DAC_OVERRIDE), with_caps(FOWNER)])
        case('a bad address', lambda p: checked(getattr(libc, call)(ctypes.c_void_p(1))))
    results.case('unlinkat', 'unknown flags', lambda p: checked(libc.unlinkat(AT_FDCWD, (p / 'f').encode(), 1)), lambda p: p.file('f'))
    results.case('unlinkat', 'a bad descriptor', lambda p: os.unlink('f', dir_fd=BAD_FD))
    results.case('unlinkat', 'below the descriptor of a file', lambda p: os.unlink('x', dir_fd=os.open(p / 'f', 0)), lambda p: p.file('f'))
    results.case('rmdir', 'the working directory, then a file in it', in_removed(lambda p: os.open('x', os.O_CREAT | os.O_WRONLY)))
    results.case('rmdir', 'the working directory, then a directory in it', in_removed(lambda p: os.mkdir('x')))
    results.case('rmdir', 'the working directory, then a symlink in it', in_removed(lambda p: os.symlink('a', 'x')))
    results.case('rmdir', 'the working directory, then a list', in_removed(lambda p: os.listdir('.')))
    results.case('rmdir', 'the working directory, then a rename into it', in_removed(lambda p: os.rename(p / 'f', 'x')), lambda p: p.file('f'))
    results.case('rmdir', 'the working directory, then a link into it', in_removed(lambda p: os.link(p / 'f', 'x')), lambda p: p.file('f'))
    results.case('rmdir', 'the working directory, then its links', in_removed(lambda p: os.stat('.').st_nlink))
    results.case('rmdir', 'the working directory, then ..', in_removed(lambda p: os.stat('..').st_nlink and None))
    results.case('unlink', 'an open file, then its links', unlinked(lambda fd: os.fstat(fd).st_nlink))
    results.case('unlink', 'an open file, then chmod and write', unlinked(lambda fd: (os.fchmod(fd, 0o600), os.write(fd, b'x'))))
    results.case('unlink', 'an open file, then an attribute', unlinked(lambda fd: os.setxattr(fd, 'user.a', b'1')))


def in_removed(act):
    def do(place):
        os.mkdir(place / 'gone')
        os.chdir(place / 'gone')
        os.rmdir(place / 'gone')
        return act(place)
    return do


def unlinked(act):
    def do(place):
        fd = os.open(place / 'f', os.O_CREAT | os.O_RDWR)
        os.unlink(place / 'f')
        return act(fd)
    return do


def make(results):
    def mkfile(path):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))

    def bind(path):
        os.chdir(os.path.dirname(path) or '.')
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(os.path.basename(path))

    makers = {
        'mkdir': os.mkdir,
        'mknod': lambda path: os.mknod(path, stat.S_IFREG | 0o644),
        'mkfifo': os.mkfifo,
        'symlink': lambda path: os.symlink('target', path),
        'open O_CREAT|O_EXCL': mkfile,
    }
    for call, act in makers.items():
        case = lambda what, act, *rest, **more: results.case(call, what, act, *rest, **more)
        path_errors(results, call, act, creates=True, follows=False)
        case('over a file', lambda p: act(p / 'f'), lambda p: p.file('f'))
        case('over a directory', lambda p: act(p / 'd'), lambda p: p.dir('d'))
        case('over a dangling symlink', lambda p: act(p / 'l'), lambda p: p.link('l', 'missing'))
        case('over a loop', lambda p: act(p / 'l'), lambda p: p.link('l', 'l'))
        case('.', lambda p: act(p / '.'))
        case('..', lambda p: act(p / 'd/..'), lambda p: p.dir('d'))
        case('with a slash behind', lambda p: act(p / 'new/'))
        case('name of 255 bytes', lambda p: act(p / ('n' * 255)))
        case('where one may not write', lambda p: act(p / 'u/new'), unwritable, USERS)
        case('over what is there where one may not write', lambda p: act(p / 'u/file'), unwritable, USERS)
        case('in a group writable directory', lambda p: act(p / 'g/new'), lambda p: p.dir('g', 0o770, ROOT, 2000), USERS)
        case('in a setgid directory', lambda p: act(p / 'g/new'), lambda p: p.dir('g', 0o2777, BOB), USERS,
             then=lambda p: owner_of(p / 'g/new') if call != 'symlink' else owner_of(p / 'g/new')[:2])
    results.case('bind', 'a socket over a file', lambda p: bind(p / 'f'), lambda p: p.file('f'))
    results.case('bind', 'a socket where one may not write', lambda p: bind(p / 'u/new'), unwritable, [ROOT, BOB])
    devices = {'char': stat.S_IFCHR, 'block': stat.S_IFBLK, 'fifo': stat.S_IFIFO, 'socket': stat.S_IFSOCK, 'directory': stat.S_IFDIR,
               'symlink': stat.S_IFLNK, 'nothing': 0, 'unknown': 0o170000}
    for name, type in devices.items():
        act = lambda p: checked(libc.mknod((p / 'w/new').encode(), type | 0o644, os.makedev(1, 3)))
        results.case('mknod', name, act, lambda p: p.dir('w', 0o777), [ROOT, ANN, with_caps(MKNOD), ROOT_WITHOUT],
                     then=lambda p: oct(os.lstat(p / 'w/new').st_mode) if os.path.lexists(p / 'w/new') else None)
    for mode in (0o4755, 0o2755, 0o1755, 0o7777):
        for directory in (0o777, 0o2777):
            set = lambda p: p.dir('d', directory, ANN)
            results.case('open', f'O_CREAT with mode {mode:o} in a directory with {directory:o}',
                         lambda p: os.close(os.open(p / 'd/new', os.O_CREAT, mode)), set, USERS, then=lambda p: owner_of(p / 'd/new'))
            results.case('mkdir', f'with mode {mode:o} in a directory with {directory:o}',
                         lambda p: os.mkdir(p / 'd/new', mode), set, USERS, then=lambda p: owner_of(p / 'd/new'))


def rename(results):
    case = lambda what, act, *rest, **more: results.case('rename', what, act, *rest, **more)
    both = lambda a, b, act=os.rename: lambda p: act(p / a, p / b)
    path_errors(results, 'rename', lambda path: os.rename(path, f'{path}-new'), follows=False)
    # The source is in another filesystem, which is found out last.
    path_errors(results, 'rename to', lambda path: os.rename('/proc/self/cwd', path), creates=True, follows=False)
    tree = only('f', 'd/e')
    things = ['f', 'd', 'empty', 'full', 'ld', 'fifo', 'hard', 'missing', 'd/e', 'd/new', '.', '..', 'f/', 'd/', 'new/']
    for a in things:
        for b in things:
            case(f'{a} to {b}', both(a, b), only(a, b))
    for a in ('f', 'd', 'l'):
        for b in ('g', 'missing', 'empty', 'full', 'd/e', 'hard', '.'):
            for flags in (1, 2, 3, 4, 8, 5):
                act = lambda source, target: renameat2(source, target, flags)
                results.case('renameat2', f'{a} to {b} with flags {flags}', both(a, b, act), only(a, b))
    results.case('renameat2', 'exchange with the directory above', both('d/e', 'd', lambda a, b: renameat2(a, b, 2)), tree)
    case('to another filesystem', lambda p: os.rename(p / 'f', f'{p.other}/f'), tree)
    case('from another filesystem', lambda p: os.rename(p.other, p / 'new'))
    results.case('renameat', 'a bad descriptor', lambda p: os.rename('a', 'b', src_dir_fd=BAD_FD))
    # Who may.
    case('out of where one may not write', both('u/file', 'open/new'), unwritable, USERS)
    case('into where one may not write', both('open/mine', 'u/new'), unwritable, USERS)
    case('over what is where one may not write', both('open/mine', 'u/file'), unwritable, USERS)
    for mode in (0o755, 0o555):
        moved = lambda p: (p.dir('a', 0o777), p.dir('b', 0o777), p.dir('a/d', mode, ANN))
        case(f'a directory with {mode:o} to another directory', both('a/d', 'b/d'), moved, [*USERS, with_caps(DAC_OVERRIDE)])
        case(f'a directory with {mode:o} within its directory', both('a/d', 'a/e'), moved, USERS)
        results.case('renameat2', f'exchange of a directory with {mode:o}', both('a/d', 'b', lambda a, b: renameat2(a, b, 2)), moved, USERS)
    for owner in (ROOT, ANN):
        for of_file in (ROOT, ANN, BOB):
            who = [*USERS, with_caps(FOWNER), with_caps(DAC_OVERRIDE)]
            what = f'a sticky directory of {owner.name}, of {of_file.name}'
            case(f'out of {what}', both('s/x', 'open/x'), sticky(owner, of_file), who)
            case(f'within {what}', both('s/x', 's/new'), sticky(owner, of_file), who)
            case(f'over what is in {what}', both('s/bobs', 's/x'), sticky(owner, of_file), who)
            results.case('renameat2', f'exchange in {what}', both('s/bobs', 's/x', lambda a, b: renameat2(a, b, 2)), sticky(owner, of_file), who)


def link(results):
    case = lambda what, act, *rest, **more: results.case('link', what, act, *rest, **more)
    path_errors(results, 'link', lambda path: os.link(path, f'{path}-new', follow_symlinks=False), follows=False)
    # As above.
    path_errors(results, 'link to', lambda path: os.link('/proc/self/exe', path, follow_symlinks=False), creates=True, follows=False)
    tree = only('f')
    for a in ('f', 'd', 'l', 'ld', 'dangling', 'fifo', '.', 'f/'):
        for b in ('new', 'g', 'd', 'd/new', 'l', 'dangling', 'new/', 'd/.'):
            for follow in (False, True):
                case(f'{a} to {b}{" followed" if follow else ""}', lambda p: os.link(p / a, p / b, follow_symlinks=follow), only(a, b))
    case('to another filesystem', lambda p: os.link(p / 'f', f'{p.other}/f'), tree)
    case('where one may not write', lambda p: os.link(p / 'open/mine', p / 'u/new'), unwritable, USERS)
    for mode in (0o644, 0o600, 0o666, 0o4777, 0o2777, 0o777):
        for type in ('file', 'fifo'):
            owned = lambda p: (p.dir('w', 0o777), getattr(p, type)('w/x', mode, ANN))
            case(f'a {type} of ann with {mode:o}', lambda p: os.link(p / 'w/x', p / 'w/new'), owned, [*USERS, with_caps(FOWNER)])
    results.case('linkat', 'unknown flags', lambda p: linkat(AT_FDCWD, p / 'f', p / 'new', 1), tree)
    results.case('linkat', 'a bad descriptor', lambda p: linkat(BAD_FD, 'f', p / 'new', 0), tree)

    def nameless(flags, act, unnamed=True):
        def do(place):
            if unnamed:
                fd = os.open(place / 'w', os.O_TMPFILE | flags, 0o640)
            else:
                fd = os.open(place / 'w/f', os.O_CREAT | flags)
                os.unlink(place / 'w/f')
            act(place, fd)
            return oct(os.fstat(fd).st_mode & 0o7777), os.fstat(fd).st_nlink
        return do
    by_proc = lambda p, fd: linkat(AT_FDCWD, f'/proc/self/fd/{fd}', p / 'w/new', 0x400)
    by_fd = lambda p, fd: linkat(fd, '', p / 'w/new', 0x1000)
    open_dir = lambda p: p.dir('w', 0o777)
    for name, act in (('/proc', by_proc), ('AT_EMPTY_PATH', by_fd)):
        who = [ROOT, ANN, with_caps(DAC_READ_SEARCH)]
        results.case('linkat', f'of a file without a name, by {name}', nameless(os.O_RDWR, act), open_dir, who)
        results.case('linkat', f'of one opened with O_EXCL, by {name}', nameless(os.O_RDWR | os.O_EXCL, act), open_dir, who)
        results.case('linkat', f'of an unlinked file, by {name}', nameless(os.O_RDWR, act, False), open_dir, who)
        results.case('linkat', f'over a file, by {name}', nameless(os.O_RDWR, act), lambda p: (open_dir(p), p.file('w/new')), who)
    path_errors(results, 'open O_TMPFILE', lambda path: os.close(os.open(path, os.O_TMPFILE | os.O_RDWR)))
    for flags in (os.O_RDONLY, os.O_CREAT | os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
        results.case('open O_TMPFILE', f'with flags {flags:o}', lambda p: os.close(os.open(p / 'w', os.O_TMPFILE | flags)), open_dir)
    results.case('open O_TMPFILE', 'in a file', lambda p: os.close(os.open(p / 'f', os.O_TMPFILE | os.O_RDWR)), tree)
    results.case('open O_TMPFILE', 'where one may not write', lambda p: os.close(os.open(p / 'u', os.O_TMPFILE | os.O_RDWR)), unwritable, USERS)
    results.case('open O_TMPFILE', 'in a setgid directory', nameless(os.O_RDWR, lambda p, fd: None), lambda p: p.dir('w', 0o2777, BOB), USERS)


def symlinks(results):
    for size in (0, 1, 59, 60, 4000, 4094, 4095, 4096, 5000):
        results.case('symlink', f'to a target of {size} bytes', lambda p: os.symlink('t' * size, p / 'l'))
        results.case('readlink', f'of {size} bytes', lambda p: len(os.readlink(p / 'l')), lambda p: 0 < size < 4095 and p.link('l', 't' * size))
    path_errors(results, 'readlink', os.readlink, follows=False)
    results.case('readlink', 'a loop', lambda p: os.readlink(p / 'l') == 'l', lambda p: p.link('l', 'l'))
    results.case('readlink', 'a file', lambda p: os.readlink(p / 'f'), lambda p: p.file('f'))
    results.case('readlink', 'a directory', lambda p: os.readlink(p.path))
    for size in (0, 3, 100):
        got = buffer(200)
        results.case('readlink', f'into {size} bytes', lambda p: checked(libc.readlink((p / 'l').encode(), got, size)), lambda p: p.link('l', 'target'))
    results.case('readlink', 'into a bad address', lambda p: checked(libc.readlink((p / 'l').encode(), ctypes.c_void_p(1), 10)), lambda p: p.link('l', 'target'))
    # fs.protected_symlinks: in a sticky directory that all may write to.
    for owner in (ROOT, ANN, BOB):
        def setup(p):
            p.dir('s', STICKY)
            p.file('f', 0o644)
            os.symlink('../f', p / 's/l')
            os.lchown(p / 's/l', owner.uid, owner.gid)
        results.case('open', f'a symlink of {owner.name} in a sticky directory', lambda p: os.close(os.open(p / 's/l', os.O_RDONLY)), setup, USERS)
