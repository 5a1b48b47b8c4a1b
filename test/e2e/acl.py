"""Does one line after the other of what several users do with access control lists, and prints what came of each:

    acl.py SCRIPT DIRECTORY[,DIRECTORY...]

The directories are one and the same, on several mounts: the lines take turns between them. A line is `USER UMASK COMMAND`, and
the command is run by bash in the directory. What is printed says nothing of the directory or of times.
"""
import os
import subprocess
import sys

# uid, gid, supplementary groups
USERS = {
    'root': (0, 0, []),
    'ann': (1000, 1000, [2000]),
    'bob': (1001, 1001, [1000]),
    'cid': (1002, 1002, [2000, 2001]),
}

directories = sys.argv[2].split(',')
with open(sys.argv[1]) as script:
    lines = [line.strip() for line in script if line.strip() and not line.startswith('#')]

for index, line in enumerate(lines):
    user, umask, command = line.split(' ', 2)
    uid, gid, groups = USERS[user]
    directory = directories[index % len(directories)]

    def become():
        os.umask(int(umask, 8))
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)

    ran = subprocess.run(
        ['bash', '-c', command], cwd=directory, preexec_fn=become, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(f'$ {line}\n{ran.stdout}= {ran.returncode}')
