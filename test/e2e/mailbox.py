"""
A mailbox with dotlocks, as mail servers on shared storage have it: `mailbox.py DIRECTORY TAG COUNT SEED`.

Delivers COUNT messages to DIRECTORY/mbox; in between empties it into DIRECTORY/archive. Each time under DIRECTORY/mbox.lock, which
is made by O_EXCL or by a link of a file of its own; what fcntl says is not asked. A message has its writer, number and length in its first line.
"""
import os
import random
import sys
import time

directory, tag, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
random.seed(seed)
box, archive, lock = (os.path.join(directory, name) for name in ('mbox', 'archive', 'mbox.lock'))
DEADLINE_S = 120


def locked_by_create(mark):
    try:
        fd = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    os.write(fd, mark)
    os.close(fd)
    return True


def locked_by_link(mark):
    own = f'{lock}.{tag}'
    fd = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, mark)
    os.close(fd)
    try:
        os.link(own, lock)
        linked = True
    except FileExistsError:
        linked = False
    if (os.stat(own).st_nlink == 2) != linked:
        sys.exit('link() and the number of links do not agree')
    os.unlink(own)
    return linked


def under_lock(work, number):
    mark = f'{tag} {number}\n'.encode()
    take = random.choice((locked_by_create, locked_by_link))
    until = time.monotonic() + DEADLINE_S
    while not take(mark):
        if time.monotonic() > until:
            sys.exit(f'no lock in {DEADLINE_S} s: {os.listdir(directory)}')
        time.sleep(random.uniform(0.001, 0.02))
    work()
    with open(lock, 'rb') as file:
        found = file.read()
    if found != mark:
        sys.exit(f'the lock of {mark} is of {found}')
    os.unlink(lock)


def deliver(number):
    length = random.choice((10, 300, 5_000, 70_000))
    message = f'From {tag} {number} {length}\n'.encode() + f'{tag}'.encode() * length + b'\n'
    with open(box, 'ab', buffering=0) as file:
        # In two parts: under the lock nobody writes between.
        half = random.randrange(1, len(message))
        file.write(message[:half])
        file.write(message[half:])
        if random.random() < 0.3:
            os.fsync(file.fileno())


def expunge():
    """All messages to the archive; the mailbox is emptied, or replaced by an empty one."""
    with open(box, 'rb') as file:
        content = file.read()
    with open(archive, 'ab') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if random.random() < 0.5:
        os.truncate(box, 0)
    else:
        open(f'{box}.new', 'wb').close()
        os.rename(f'{box}.new', box)


for number in range(count):
    under_lock(lambda: deliver(number), number)
    if random.random() < 0.15:
        under_lock(expunge, number)
