"""Removes names of a directory and seeks back to the others: seek-directory.py DIRECTORY REMOVED SEEKS SEED.

Reads all names, notes where each was, removes REMOVED of them, makes as many others, and goes back to SEEKS of the places in any order:
there must be the name that was there, or where that was removed the next one that was not. Prints how many it found.
"""
import ctypes
import os
import random
import sys

directory, removed, seeks, seed = sys.argv[1], *map(int, sys.argv[2:])
random.seed(seed)
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
libc.readdir.argtypes = libc.telldir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
NAME_AT = 19

stream = libc.opendir(directory.encode())


def next_name():
    entry = libc.readdir(stream)
    return None if entry is None else ctypes.string_at(entry + NAME_AT).decode()


places = []
while True:
    place = libc.telldir(stream)
    name = next_name()
    if name is None:
        break
    if name not in ('.', '..'):
        places.append((place, name))

gone = set(random.sample([name for _, name in places], removed))
for name in gone:
    os.unlink(os.path.join(directory, name))
    os.close(os.open(os.path.join(directory, name + '-new'), os.O_CREAT | os.O_WRONLY))

found = 0
for index in random.sample(range(len(places)), seeks):
    libc.seekdir(stream, places[index][0])
    name = next_name()
    # POSIX leaves open whether what came or went since is told.
    while name is not None and (name in gone or name.endswith('-new')):
        name = next_name()
    wanted = next((name for _, name in places[index:] if name not in gone), None)
    if name != wanted:
        sys.exit(f'at the place of {places[index][1]} there is {name}, not {wanted}')
    found += 1
libc.closedir(stream)
print(found)
