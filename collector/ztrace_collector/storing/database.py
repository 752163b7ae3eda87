"""Open a database file for writing, and refuse in one line what is not ztrace's or is in use.

One idea: one writer. The collector keeps figures in memory between transactions, so a second one on the same
file would write wrong ones; a lock on ``FILE.lock`` keeps it out, and goes with the process that holds it.
"""

import errno
import fcntl
import os
import sqlite3
from pathlib import Path

from sqlite_utils import Database

from ztrace.errors import (
    DatabaseBlocked,
    DatabaseError,
    DatabaseForeign,
    DatabaseInUse,
    DatabaseNewer,
)
from ztrace_collector.layout import APPLICATION_ID, SCHEMA_VERSION
from ztrace_collector.storing.faults import OTHER_FILE, explain
from ztrace_collector.tables.schema import migrations

#: Pages of the write-ahead log (4 KiB each) that are collected before they go into the database: indexes
#: of a whole checkpoint are written once instead of once a transaction.
CHECKPOINT_PAGES = 20_000
#: Another program, a shell or Datasette, may write for a moment. Longer, and `Writer` holds: the collector
#: does not hear that it is to stop while it waits in here.
BUSY_TIMEOUT_MS = 500
#: KiB of pages that SQLite keeps: the parts of the indexes that are written to all the time.
CACHE_KIB = 32 << 10


class Lock:
    """The right to write to a database, held by one process until `release` or its end."""

    def __init__(self, database: Path) -> None:
        """Take the lock.

        Raises:
            DatabaseInUse: somebody has it.
            DatabaseBlocked: there is no space for the lock's file.
            DatabaseError: the lock's file cannot be made.
        """
        self._path = Path(f"{database}.lock")
        while True:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise DatabaseBlocked(f"no space for {database}", hint="free some space") from error
                raise DatabaseError(
                    f"cannot write beside {database}: {error.strerror}",
                    hint=f"make the folder {database.parent} writable, or {OTHER_FILE}",
                ) from error
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current():
                    return
            except BlockingIOError as error:
                os.close(self._file)
                raise DatabaseInUse(
                    f"another collector writes to {database}", hint=f"stop it, or {OTHER_FILE}"
                ) from error
            # Its last holder removed the file between our opening and locking it: lock the one that is there.
            os.close(self._file)

    def release(self) -> None:
        """Give the lock back and remove its file."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            pass  # A lock file that stays is harmless: only the lock on it counts.
        os.close(self._file)

    def _is_current(self) -> bool:
        try:
            there, held = os.stat(self._path), os.fstat(self._file)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def open_database(path: Path) -> tuple[sqlite3.Connection, Lock]:
    """Open the file for writing, make it or bring it up to date, and lock it.

    Raises:
        DatabaseError: one of its classes; nothing has been changed, except that a file may have been made.
    """
    path = path.absolute()
    try:
        path = path.resolve()  # Two names of one file have one lock.
        _check_place(path)
    except OSError as error:
        raise DatabaseError(f"cannot use {path}: {error.strerror}", hint=OTHER_FILE) from error
    lock = Lock(path)
    try:
        db = _connect(path)
        try:
            _check_identity(db, path)
            _prepare(db, path)
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        lock.release()
        raise explain(error, path) from error
    except BaseException:
        lock.release()
        raise
    return db, lock


def close_database(db: sqlite3.Connection) -> None:
    """Close the database, and leave one file that can be read and copied alone, unless somebody reads it."""
    try:
        db.execute("PRAGMA busy_timeout = 0")
        db.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error:
        pass  # It has readers, or no disk: the log beside it is valid, and taken up when it is opened.
    db.close()


def take_in_log(db: sqlite3.Connection) -> None:
    """Take the log into the database and cut it to nothing, as far as readers and the disk let it."""
    try:
        # Readers are not waited for: the log is valid as it is.
        db.execute("PRAGMA busy_timeout = 0")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    except sqlite3.Error:
        pass  # What is wrong shows with the next transaction, which is told what to do about it.


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise DatabaseError(f"{path} is a folder", hint=f"give a file in it, as in --db {path / 'ztrace.db'}")
    if path.exists() and not path.is_file():
        raise DatabaseError(f"{path} is not a file", hint=OTHER_FILE)
    if not path.parent.is_dir():
        exists = path.parent.exists()
        raise DatabaseError(
            f"{path.parent} is not a folder" if exists else f"there is no folder {path.parent}",
            hint=OTHER_FILE if exists else f"make it with 'mkdir -p {path.parent}', or {OTHER_FILE}",
        )
    if path.exists() and not os.access(path, os.W_OK):
        raise DatabaseError(f"{path} is not writable", hint=f"make it writable, or {OTHER_FILE}")


def _connect(path: Path) -> sqlite3.Connection:
    # For bytes and None sqlite3 otherwise looks for two methods of the value that it never finds, which costs
    # a quarter of an insert. These give the value back.
    sqlite3.register_adapter(bytes, bytes)
    sqlite3.register_adapter(type(None), {None: None}.get)
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)


def _check_identity(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is not ztrace's, or a newer ztrace's, before anything is written to it."""
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id != APPLICATION_ID:
        if application_id == 0 and version == 0 and tables == 0:
            return
        raise DatabaseForeign(f"{path} is another program's database", hint=OTHER_FILE)
    wrapped = _wrap(db)
    applied = {migration.name for migration in migrations.applied(wrapped)}
    # Those that this version knows and has applied are as many as it has less those it would apply.
    if version > SCHEMA_VERSION or len(applied) > SCHEMA_VERSION - len(migrations.pending(wrapped)):
        raise DatabaseNewer(
            f"a newer ztrace wrote {path}",
            hint=f"upgrade ztrace here: pip install -U ztrace, or {OTHER_FILE}",
        )


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Set the file up as the collector needs it, all in one transaction what is to be seen all at once."""
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise DatabaseError(
            f"{path} cannot have a write-ahead log", hint=f"put it on a local disk, or {OTHER_FILE}"
        )
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrations.apply(_wrap(db))
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _wrap(db: sqlite3.Connection) -> Database:
    return Database(db, recursive_triggers=False, execute_plugins=False)
