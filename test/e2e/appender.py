"""Appends lines to a file, each by one write: `appender.py PATH TAG COUNT SEED`. A line tells its writer, its number and its length."""
import os
import random
import sys

path, tag, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
random.seed(seed)
file = None
for number in range(count):
    if file is None:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    length = random.choice([1, 10, 100, 100, 1000, 5000, 60000])
    line = f'{tag} {number} {length} {tag * length}\n'.encode()
    if os.write(file, line) != len(line):
        sys.exit(f'line {number} was written in part')
    if random.random() < 0.2:
        os.fsync(file)
    if random.random() < 0.1:
        os.close(file)
        file = None
if file is not None:
    os.close(file)
