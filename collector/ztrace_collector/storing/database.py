"""Opening of a database file for writing, with a one-line error for a foreign file or one in use.

One idea: a file has one writer. The collector keeps figures in memory between transactions, so a second
collector on the same file would write wrong ones; a lock on ``FILE.lock`` prevents that, and is released with
the process that holds it.
"""

import errno
import fcntl
import os
import sqlite3
from pathlib import Path

from ztrace.errors import (
    DatabaseBlocked,
    DatabaseError,
    DatabaseForeign,
    DatabaseInUse,
    DatabaseNewer,
)
from ztrace_collector.layout import APPLICATION_ID, LOG_BYTES, SCHEMA_VERSION
from ztrace_collector.storing.existing import check_tables
from ztrace_collector.storing.faults import OTHER_FILE, explain
from ztrace_collector.storing.places import OWN_MODE, check_files, check_lock, find_place, set_mode
from ztrace_collector.tables.migrations import migrations
from ztrace_collector.tables.sqlite_utils import Database

#: Wait for another program's write, as of a shell or Datasette. After that `Writer` holds, since the
#: collector cannot react to a stop while SQLite waits.
BUSY_TIMEOUT_MS = 500
#: KiB of SQLite's page cache: enough for the parts of the indexes that are written to all the time.
CACHE_KIB = 16 << 10
#: A link is not followed, and a pipe does not block.
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Lock:
    """Exclusive right to write to a database, held until `release` or the end of the process."""

    def __init__(self, database: Path) -> None:
        """Acquire the lock.

        Raises:
            DatabaseInUse: another process holds it.
            DatabaseBlocked: there is no space for the lock file.
            DatabaseError: the lock file cannot be created.
        """
        self._path = Path(f"{database}.lock")
        while True:
            try:
                self._file = os.open(self._path, _LOCK_FLAGS, OWN_MODE)
            except OSError as error:
                if self._path.is_symlink() or (error.errno == errno.EACCES and self._path.exists()):
                    raise DatabaseError(
                        f"{self._path} is a link, or belongs to another user",
                        hint=f"remove it, or {OTHER_FILE}",
                    ) from error
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise DatabaseBlocked(f"no space for {database}", hint="free some space") from error
                raise DatabaseError(
                    f"cannot write beside {database}: {error.strerror}",
                    hint=f"make the folder {database.parent} writable, or {OTHER_FILE}",
                ) from error
            try:
                check_lock(self._path, self._file)
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current():
                    return
            except DatabaseError:
                os.close(self._file)
                raise
            except BlockingIOError as error:
                os.close(self._file)
                raise DatabaseInUse(
                    f"another collector writes to {database}", hint=f"stop it, or {OTHER_FILE}"
                ) from error
            # The last holder removed the file between the two calls: retry with the current file.
            os.close(self._file)

    def release(self) -> None:
        """Release the lock and delete its file."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            pass  # A leftover lock file is harmless: only the lock on it counts.
        os.close(self._file)

    def _is_current(self) -> bool:
        try:
            there, held = os.lstat(self._path), os.fstat(self._file)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def open_database(
    path: Path, log_bytes: int = LOG_BYTES, *, mode: int = OWN_MODE
) -> tuple[sqlite3.Connection, Lock]:
    """Open a file for writing, create or migrate it, and lock it; the caller closes and releases both.

    Args:
        path: the file.
        log_bytes: size of the write-ahead log from which each commit tries to take it into the file.
        mode: permissions of the database, and of the files that SQLite makes beside it.

    Raises:
        DatabaseError: one of its subclasses; nothing has been changed, but a file may have been created.
    """
    path = find_place(path)
    lock = Lock(path)
    try:
        set_mode(path, mode)
        db = _connect(path)
        try:
            _check_identity(db, path)
            _prepare(db, path, log_bytes)
            check_files(path)  # Those that SQLite has created or found now.
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
    """Close the database as a single file without a log, unless a reader prevents that."""
    try:
        db.execute("PRAGMA busy_timeout = 0")
        db.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error:
        pass  # With readers, or without disk space, the log stays; it is valid and used at the next opening.
    db.close()


def take_in_log(db: sqlite3.Connection, wait_ms: int) -> None:
    """Checkpoint the log and truncate it, as far as readers and the disk permit.

    Args:
        db: the database.
        wait_ms: wait for readers to end; the log is valid if they do not.
    """
    try:
        db.execute(f"PRAGMA busy_timeout = {wait_ms}")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    except sqlite3.Error:
        pass  # The next transaction reports the error.


def _connect(path: Path) -> sqlite3.Connection:
    # Without adapters, sqlite3 looks for two methods of each bytes and None value in vain, which costs a
    # quarter of an insert. These return the value itself.
    sqlite3.register_adapter(bytes, bytes.__bytes__)
    sqlite3.register_adapter(type(None), {None: None}.get)
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)


def _check_identity(db: sqlite3.Connection, path: Path) -> None:
    """Reject a file of another program, of a newer ztrace or with other tables, before it is changed."""
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id != APPLICATION_ID:
        if application_id == 0 and version == 0 and tables == 0:
            return
        raise DatabaseForeign(f"{path} is another program's database", hint=OTHER_FILE)
    wrapped = _wrap(db)
    applied = {migration.name for migration in migrations.applied(wrapped)}
    # Of the migrations of this version, those not pending have been applied; any more are of a newer version.
    if version > SCHEMA_VERSION or len(applied) > SCHEMA_VERSION - len(migrations.pending(wrapped)):
        raise DatabaseNewer(
            f"a newer ztrace wrote {path}",
            hint=f"upgrade ztrace here: pip install -U ztrace, or {OTHER_FILE}",
        )
    if version == SCHEMA_VERSION:
        check_tables(db, path)


def _prepare(db: sqlite3.Connection, path: Path, log_bytes: int) -> None:
    """Configure the connection, and create or migrate the tables in one transaction."""
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise DatabaseError(
            f"{path} cannot have a write-ahead log", hint=f"put it on a local disk, or {OTHER_FILE}"
        )
    db.execute("PRAGMA synchronous = FULL")
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    db.execute(f"PRAGMA wal_autocheckpoint = {log_bytes // page_bytes}")
    db.execute(f"PRAGMA journal_size_limit = {log_bytes}")
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
