"""Programs that all use the same few names at once: races.py SECONDS PROGRAMS SEED MOUNT...

Each opens, writes, renames over, links and removes the same six files, and goes on with what it has open whatever becomes of
the names. Prints, as JSON, how often each call ended in which way, and what differs between the mounts at the end.
"""
import collections
import errno
import fcntl
import hashlib
import json
import multiprocessing
import os
import random
import sys
import time

seconds, programs, seed = (int(argument) for argument in sys.argv[1:4])
mounts = sys.argv[4:]
DIRECTORIES = ('one', 'other')
NAMES = [f'{directory}/{name}' for directory in DIRECTORIES for name in 'abc']
OPEN_MOST = 2
FLAGS = {
    'open': (os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND),
    'open O_TRUNC': (os.O_RDWR | os.O_TRUNC,),
    'open O_CREAT': (os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_TRUNC),
    'open O_EXCL': (os.O_RDWR | os.O_CREAT | os.O_EXCL,),
}
BY_NAME = {
    'unlink': lambda path, other, r: os.unlink(path),
    'rename': lambda path, other, r: os.rename(path, other),
    'link': lambda path, other, r: os.link(path, other),
    'stat': lambda path, other, r: os.stat(path),
    'chmod': lambda path, other, r: os.chmod(path, r.choice((0o600, 0o644))),
    'setxattr': lambda path, other, r: os.setxattr(path, 'user.a', b'x' * r.randrange(30)),
    'truncate': lambda path, other, r: os.truncate(path, r.randrange(10_000)),
}
OF_OPEN = {
    'pread': lambda fd, r: os.pread(fd, 9_000, r.choice((0, 50, 4_096, 100_000))),
    'pwrite': lambda fd, r: os.pwrite(fd, os.urandom(r.choice((1, 100, 5_000, 70_000))), r.choice((0, 50, 4_096, 100_000))),
    'fstat': lambda fd, r: os.fstat(fd),
    'fsync': lambda fd, r: os.fsync(fd),
    'ftruncate': lambda fd, r: os.ftruncate(fd, r.randrange(200_000)),
    'fchmod': lambda fd, r: os.fchmod(fd, 0o644),
    'flock': lambda fd, r: (fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB), fcntl.flock(fd, fcntl.LOCK_UN)),
    'fgetxattr': lambda fd, r: os.getxattr(fd, 'user.a'),
}
WRITES, READS = ('pwrite', 'ftruncate'), ('pread',)


def program(number, until, results):
    r = random.Random(f'{seed} {number}')
    mount = mounts[number % len(mounts)]
    counts = collections.Counter()
    opened = []

    def act(call, what):
        try:
            result = what()
            counts[f'{call} ok'] += 1
            return result
        except OSError as error:
            counts[f'{call} {errno.errorcode.get(error.errno, error.errno)}'] += 1

    def close(index):
        act('close', lambda: os.close(opened.pop(index)[0]))

    while time.monotonic() < until:
        path, other = (f'{mount}/{r.choice(NAMES)}' for _ in range(2))
        draw = r.random()
        if draw < 0.4:
            call = r.choice(list(FLAGS))
            flags = r.choice(FLAGS[call])
            fd = act(call, lambda: os.open(path, flags, 0o644))
            if fd is not None:
                opened.append((fd, flags & os.O_ACCMODE))
            if len(opened) > OPEN_MOST:
                close(0)
        elif draw < 0.7:
            call = r.choice(list(BY_NAME))
            act(call, lambda: BY_NAME[call](path, other, r))
        elif opened:
            index = r.randrange(len(opened))
            fd, mode = opened[index]
            call = r.choice([*OF_OPEN, 'pread', 'pwrite', 'close'])
            if call == 'close':
                close(index)
            elif not (call in WRITES and mode == os.O_RDONLY or call in READS and mode == os.O_WRONLY):
                act(call, lambda: OF_OPEN[call](fd, r))
    while opened:
        close(0)
    results.put(counts)


def seen(mount):
    found = {}
    for name in NAMES:
        try:
            with open(f'{mount}/{name}', 'rb') as file:
                stat = os.fstat(file.fileno())
                digest = hashlib.sha256(file.read()).hexdigest()
            found[name] = [stat.st_ino, stat.st_size, stat.st_nlink, stat.st_mode, stat.st_mtime_ns, digest]
        except FileNotFoundError:
            pass
    return found


for directory in DIRECTORIES:
    os.makedirs(f'{mounts[0]}/{directory}', exist_ok=True)
results = multiprocessing.Queue()
until = time.monotonic() + seconds
running = [multiprocessing.Process(target=program, args=(number, until, results)) for number in range(programs)]
for one in running:
    one.start()
counts = collections.Counter()
for _ in running:
    counts.update(results.get())
for one in running:
    one.join()
# Names may be believed for a second.
deadline = time.monotonic() + 10
while True:
    views = [seen(mount) for mount in mounts]
    if time.monotonic() > deadline or all(view == views[0] for view in views):
        break
    time.sleep(0.1)
print(json.dumps({'counts': counts, 'views': views, 'exits': [one.exitcode for one in running]}))
