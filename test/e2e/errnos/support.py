"""What the cases of this folder are made of: users, fresh directories, system calls that Python lacks, and the list of results."""
import ctypes
import errno
import os
import resource
import signal
import stat
import struct

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
BAD_FD = 999
LONG_NAME = 'n' * 256
LONG_PATH = './' * 2048 + 'x'

# Linux's numbers of capabilities.
CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETUID, MKNOD = 0, 1, 2, 3, 4, 7, 27


class User:
    """`caps`: the only capabilities that are in effect; None: as the user id has them."""

    def __init__(self, name, uid, gid, groups=(), caps=None):
        self.name, self.uid, self.gid, self.groups, self.caps = name, uid, gid, list(groups), caps

    def become(self):
        """Root stays the saved user, for the way back; for files that makes no difference."""
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, 0)
        os.setresuid(self.uid, self.uid, 0)
        if self.caps is not None:
            set_capabilities(sum(1 << cap for cap in self.caps))


def set_capabilities(low, high=0):
    """Those in effect; all stay permitted."""
    data = struct.pack('<6I', low, ALL_CAPS, 0, high, ALL_CAPS_HIGH, 0)
    checked(libc.capset(struct.pack('<Ii', 0x20080522, 0), data))


def become_root():
    set_capabilities(ALL_CAPS, ALL_CAPS_HIGH)
    os.setresuid(0, 0, 0)
    os.setresgid(0, 0, 0)
    os.setgroups([])


def checked(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def permitted():
    header, data = struct.pack('<Ii', 0x20080522, 0), ctypes.create_string_buffer(24)
    checked(libc.capget(header, data))
    words = struct.unpack('<6I', data.raw)
    return words[1], words[4]


ALL_CAPS, ALL_CAPS_HIGH = permitted()

ROOT = User('root', 0, 0)
ANN = User('ann', 1000, 1000, [2000])
BOB = User('bob', 1001, 1001, [1000])
CID = User('cid', 1002, 2000)
USERS = [ROOT, ANN, BOB, CID]


def with_caps(*caps):
    """Somebody who owns nothing, with these capabilities."""
    names = {CHOWN: 'chown', DAC_OVERRIDE: 'dac_override', DAC_READ_SEARCH: 'dac_read_search', FOWNER: 'fowner',
             FSETID: 'fsetid', MKNOD: 'mknod'}
    return User('+'.join(names[cap] for cap in caps) or 'nobody', 65534, 65534, [], caps)


ROOT_WITHOUT = User('root without capabilities', 0, 0, [], [])


def syscall(number, *args):
    return checked(libc.syscall(number, *[ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]))


def buffer(size=4096):
    return ctypes.create_string_buffer(size)


def renameat2(source, target, flags):
    checked(libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags))


def fallocate(fd, mode, offset, length):
    checked(libc.fallocate64(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def linkat(old_fd, old, new, flags):
    checked(libc.linkat(old_fd, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def limited(size, act):
    """With a limit of the process on the size of files."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        return act()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Place:
    """A new directory, in which a case makes what it needs as root."""

    def __init__(self, path, other):
        self.path = path
        """A directory of another filesystem."""
        self.other = other

    def __truediv__(self, name):
        return f'{self.path}/{name}' if name else ''

    def file(self, name, mode=0o644, owner=ROOT, content=b'content', gid=None):
        fd = os.open(self / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(fd, content)
        os.close(fd)
        self.own(name, mode, owner, gid, 0o644)

    def dir(self, name, mode=0o755, owner=ROOT, gid=None):
        os.mkdir(self / name)
        self.own(name, mode, owner, gid, 0o755)

    def fifo(self, name, mode=0o644, owner=ROOT):
        os.mkfifo(self / name, 0o644)
        self.own(name, mode, owner, None, 0o644)

    def link(self, name, target):
        os.symlink(target, self / name)

    def own(self, name, mode, owner, gid=None, made_with=None):
        uid, gid = owner.uid, owner.gid if gid is None else gid
        if (uid, gid) != (0, 0):
            os.chown(self / name, uid, gid)
        if mode != made_with:
            os.chmod(self / name, mode)


# What things of these names are, and what else they need.
THINGS = {
    'f': lambda p: p.file('f'), 'g': lambda p: p.file('g', content=b'x' * 10000), 'd': lambda p: p.dir('d'), 'd/e': lambda p: p.dir('d/e'),
    'empty': lambda p: p.dir('empty'), 'full': lambda p: (p.dir('full'), p.file('full/x')), 'fifo': lambda p: p.fifo('fifo'),
    'l': lambda p: p.link('l', 'f'), 'ld': lambda p: p.link('ld', 'd'), 'dangling': lambda p: p.link('dangling', 'missing'),
    'hard': lambda p: os.link(p / 'f', p / 'hard'),
}
NEEDS = {'l': 'f', 'hard': 'f', 'ld': 'd'}


def only(*names):
    """A setup of the things that paths of these names lead through."""
    def setup(place):
        made = set()

        def make(name):
            if name in THINGS and name not in made:
                made.add(name)
                make(NEEDS.get(name))
                THINGS[name](place)
        for name in names:
            path = name.rstrip('/')
            make(os.path.dirname(path))
            make(path)
    return setup


class Results:
    def __init__(self, root, other):
        self.root, self.other, self.count = os.path.abspath(root), os.path.abspath(other), 0
        os.umask(0o022)
        signal.signal(signal.SIGALRM, too_long)

    def case(self, call, what, act, setup=None, users=(ROOT,), then=None):
        """
        Prints what `act(place)` comes to, by each user in a directory of its own that `setup(place)` has filled.
        `then(place)`: what root sees afterwards.
        """
        for user in users:
            place = self.place()
            if setup:
                setup(place)
            result = self.as_user(user, lambda: act(place))
            seen = f', then {outcome(lambda: then(place))}' if then else ''
            self.say(call, what, user, result + seen)

    def place(self):
        self.count += 1
        path = os.path.join(self.root, str(self.count))
        os.mkdir(path)
        return Place(path, self.other)

    def chain(self):
        """A directory of symlinks, l1 to l41, that each lead to the one before. Cases leave it as it is."""
        path = os.path.join(self.root, 'chain')
        if not os.path.isdir(path):
            os.makedirs(f'{path}/l0')
            for index in range(41):
                os.symlink(f'l{index}', f'{path}/l{index + 1}')
        return path

    def as_user(self, user, act):
        """Whatever it has opened is closed."""
        signal.alarm(20)
        user.become()
        try:
            return outcome(act)
        except Exception as error:
            return f'{type(error).__name__}: {error}'
        finally:
            become_root()
            signal.alarm(0)
            os.chdir('/')
            os.closerange(3, 40)

    def say(self, call, what, user, result):
        print(f'{call} | {what} | {user.name} | {result}', flush=True)


# Two have a second name.
NAMES = {**errno.errorcode, errno.EDEADLK: 'EDEADLK', errno.EOPNOTSUPP: 'EOPNOTSUPP'}


def too_long(signum, frame):
    raise TimeoutError


def outcome(act):
    try:
        value = act()
    except OSError as error:
        return NAMES.get(error.errno, str(error.errno))
    return 'ok' if value is None else f'ok {value}'


def mode_of(path):
    return oct(os.lstat(path).st_mode & 0o7777)


def owner_of(path):
    found = os.lstat(path)
    return found.st_uid, found.st_gid, oct(found.st_mode & 0o7777)


def path_errors(results, call, act, creates=False, follows=True):
    """
    What every call refuses that looks up a path: `act(path)`. `creates`: the last name need not be there. `follows`: a
    symlink in the last place is followed.
    """
    results.chain()

    def case(what, path, setup=None, users=(ROOT,)):
        results.case(call, what, lambda place: act(path(place)), setup, users)

    if not creates:
        case('missing', lambda place: place / 'missing')
    case('empty path', lambda place: '')
    case('missing directory', lambda place: place / 'missing/x')
    case('below a file', lambda place: place / 'file/x', lambda place: place.file('file'))
    case('below a fifo', lambda place: place / 'fifo/x', lambda place: place.fifo('fifo'))
    case('file with a slash behind', lambda place: place / 'file/', lambda place: place.file('file'))
    case('below a dangling symlink', lambda place: place / 'link/x', lambda place: place.link('link', 'missing'))
    case('through a loop', lambda place: place / 'loop/x', lambda place: place.link('loop', 'loop'))
    case('loop with a slash behind', lambda place: place / 'loop/', lambda place: place.link('loop', 'loop'))
    if follows:
        case('loop of one', lambda place: place / 'loop', lambda place: place.link('loop', 'loop'))
        case('loop of two', lambda place: place / 'a', lambda place: (place.link('a', 'b'), place.link('b', 'a')))
        case('dangling symlink', lambda place: place / 'link', lambda place: place.link('link', 'missing'))
    case('41 symlinks', lambda place: f'{results.chain()}/l41/x')
    case('40 symlinks', lambda place: f'{results.chain()}/l40/missing/x')
    case('name of 256 bytes', lambda place: place / LONG_NAME)
    case('name of 256 bytes on the way', lambda place: place / f'{LONG_NAME}/x')
    case('path of 4096 bytes', lambda place: place / LONG_PATH)
    case('no search permission', lambda place: place / 'closed/file', closed(0o600), USERS)
    case('no search permission but for the group', lambda place: place / 'closed/file', closed(0o670, ANN), [ANN, BOB, CID])
    case('search, but no read permission', lambda place: place / 'closed/missing/x', closed(0o711), [ANN])


def closed(mode, owner=ROOT):
    def setup(place):
        place.dir('closed')
        place.file('closed/file', 0o666)
        place.own('closed', mode, owner)
    return setup
