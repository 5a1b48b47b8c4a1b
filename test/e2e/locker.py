"""Adds to counters in a file under fcntl locks, until it is stopped: locker.py FILE COUNTERS ROUNDS SEED MANIFEST.

The file has COUNTERS numbers of 16 digits. Each round takes a lock on some of them in a row, reads them, adds one to
each, and gives the lock up; now and then only to read, or for a second range beside the first, which may be refused as a
deadlock. What it is about to add goes into the manifest, which is not on the mount, and then that it was added; what goes
wrong goes there, too. SIGTERM ends it after the round.
"""
import errno
import fcntl
import os
import random
import signal
import sys

path, counters, rounds, seed, manifest_path = sys.argv[1:]
counters, rounds, random = int(counters), int(rounds), random.Random(seed)
manifest = open(manifest_path, 'a', buffering=1)
stopped = False


def stop(*_):
    global stopped
    stopped = True


signal.signal(signal.SIGTERM, stop)
DIGITS = 16


def lock(file, kind, first, count):
    fcntl.lockf(file, kind, count * DIGITS, first * DIGITS)


def read(file, first, count):
    return [int(os.pread(file, DIGITS, (first + i) * DIGITS)) for i in range(count)]


def add(file, first, count):
    manifest.write(f'begin {first} {count}\n')
    for i, value in enumerate(read(file, first, count)):
        os.pwrite(file, b'%016d' % (value + 1), (first + i) * DIGITS)
    os.fsync(file)
    manifest.write(f'added {first} {count}\n')


def some():
    first = random.randrange(counters)
    return first, random.randint(1, min(4, counters - first))


try:
    file = os.open(path, os.O_RDWR)
    for number in range(rounds):
        if stopped:
            break
        first, count = some()
        if random.random() < 0.2:
            lock(file, fcntl.LOCK_SH, first, count)
            if read(file, first, count) != read(file, first, count):
                raise RuntimeError('somebody wrote under a shared lock')
        else:
            lock(file, fcntl.LOCK_EX, first, count)
            add(file, first, count)
            if random.random() < 0.2:
                other = some()
                try:
                    lock(file, fcntl.LOCK_EX, *other)
                    add(file, *other)
                except OSError as error:
                    if error.errno != errno.EDEADLK:
                        raise
                    manifest.write('deadlock\n')
        lock(file, fcntl.LOCK_UN, 0, counters)
        manifest.write('round\n')
    manifest.write('ended\n')
except Exception as error:
    manifest.write(f'failed: {error!r}\n')
    raise
