"""What each call refuses, and why:

    run.py DIRECTORY OTHER [PART...]

Prints a line `call | case | user | result` for each case of this folder, done in DIRECTORY as root or as others. OTHER is a
directory of another filesystem. The lines are the same on every filesystem that is right.
"""
import sys

sys.dont_write_bytecode = True

import attributes
import content
import mounted
import names
from support import Results

PARTS = {'names': names, 'content': content, 'attributes': attributes, 'mounted': mounted}
results = Results(sys.argv[1], sys.argv[2])
for part in sys.argv[3:] or PARTS:
    PARTS[part].run(results)
