"""Read-only access to a database file.

One idea: users never see SQLite's own errors. Each failure while the file is open is raised as one of the
`ztrace.errors.DatabaseError` classes, with a hint.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from ztrace.errors import DatabaseCorrupt, DatabaseError, DatabaseForeign
from ztrace_collector.sealing.reading import add_views
from ztrace_collector.storing.existing import check_file, check_identity
from ztrace_collector.tables.views import SPAN_LIST
from ztrace_viewer.terminal.saying import complain

#: Timeout of a lock. In WAL mode a reader waits for the recovery after a crash only, which takes a moment.
_BUSY_TIMEOUT_S = 2.0


@contextmanager
def open_database(path: Path, *, snapshot: bool = True) -> Iterator[sqlite3.Connection]:
    """Open a ztrace database read-only; the connection is closed at the end of the block.

    Args:
        path: the file.
        snapshot: read one state of the database throughout, as a document of several queries requires;
            False to read what is written meanwhile.

    Raises:
        DatabaseError: one of its classes, here or while the connection is used.
    """
    check_file(path, for_writing=False)
    try:
        with closing(_connect(path)) as db:
            check_identity(db, path)
            # In memory, since a reader may not be able to write anywhere.
            db.execute("PRAGMA temp_store = MEMORY")
            add_views(db, _tell_damage)
            db.execute("PRAGMA query_only = 1")
            if snapshot:
                db.execute("BEGIN")
            yield db
    except sqlite3.Error as error:
        raise _explain(error, path) from error


def add_lists(db: sqlite3.Connection) -> None:
    """Add the views of all spans to another program's connection, as columns and as a person reads them."""
    add_views(db)
    db.execute(f"CREATE TEMP VIEW all_span_list AS {SPAN_LIST.format('all_spans')}")


@contextmanager
def one_state(db: sqlite3.Connection) -> Iterator[None]:
    """Read one state of the database throughout the block, over a connection without a snapshot.

    While a snapshot is held, the collector cannot empty the log beside the file, which grows with everything
    it stores. So the block should read and do nothing else: nothing that waits for a terminal or a peer.
    """
    db.execute("BEGIN")
    try:
        yield
    finally:
        release(db)


def release(db: sqlite3.Connection) -> None:
    """Release the snapshot of a connection once everything is read."""
    if db.in_transaction:
        db.execute("COMMIT")


def read_sizes(db: sqlite3.Connection) -> tuple[int, int]:
    """Return the bytes of the file and of the write-ahead log beside it."""
    (pages,), (page_bytes,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
    )
    (_, _, file), *_ = db.execute("PRAGMA database_list").fetchall()
    try:
        log_bytes = os.stat(f"{file}-wal").st_size
    except OSError:
        log_bytes = 0  # No collector has the file open.
    return pages * page_bytes, log_bytes


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        return _prepare(uri)
    except sqlite3.OperationalError:
        # SQLite creates files beside a WAL database. Where it may not, and no collector left any, the file
        # itself is complete.
        if os.access(path.parent, os.W_OK) or Path(f"{path}-wal").exists():
            raise
        return _prepare(f"{uri}&immutable=1")


def _prepare(uri: str) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        db.text_factory = _decode
        db.execute("PRAGMA schema_version").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _tell_damage(trace_id: bytes) -> None:
    complain(f"ztrace: the sealed spans of trace {trace_id.hex()} are damaged and left out")


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _explain(error: sqlite3.Error, path: Path) -> DatabaseError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return DatabaseForeign(f"{path} is not a database", hint="give another file with --db")
    if code == sqlite3.SQLITE_CORRUPT:
        return DatabaseCorrupt(
            f"{path} is damaged: {error}",
            hint=f"recover what is readable with 'sqlite3 {path} .recover'",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseError(f"{path} is locked by another program", hint="retry in a moment")
    if code == sqlite3.SQLITE_ERROR:
        # A column that is missing: the statements are constants, so this file has other tables than they.
        return DatabaseError(
            f"cannot query {path}: {error}", hint="another version of ztrace may have made it"
        )
    return DatabaseError(f"cannot read {path}: {error}", hint="check the permissions of its folder")
