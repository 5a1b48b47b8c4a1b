"""Commits numbered transactions to a database until it is killed: transactions.py DATABASE JOURNAL_MODE MANIFEST.

Each moves money between two accounts, so that a transaction done half or twice would show in the sum or the count. Its
number goes into the manifest, which is not on the mount, once it was committed. What goes wrong goes there, too.
"""
import sqlite3
import sys

path, mode, manifest_path = sys.argv[1:]
manifest = open(manifest_path, 'a', buffering=1)
try:
    database = sqlite3.connect(path, isolation_level=None)
    got = database.execute(f'pragma journal_mode={mode}').fetchone()[0]
    if got != mode:
        raise RuntimeError(f'journal mode {got} instead of {mode}')
    database.execute('pragma synchronous=full')
    database.execute('create table account (name text primary key, amount integer)')
    database.execute('create table moved (number integer primary key, note blob)')
    database.execute("insert into account values ('one', 1000000), ('two', 0)")
    number = 0
    while True:
        database.execute('begin immediate')
        database.execute("update account set amount = amount - 1 where name = 'one'")
        database.execute("update account set amount = amount + 1 where name = 'two'")
        database.execute('insert into moved values (?, randomblob(3000))', (number,))
        database.execute('commit')
        manifest.write(f'{number}\n')
        number += 1
except Exception as error:
    manifest.write(f'failed: {error!r}\n')
    raise
