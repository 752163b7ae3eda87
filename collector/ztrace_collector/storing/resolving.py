"""Resolution of an exception group, with or without a running collector.

One idea: it is one short transaction. The collector reads a group from the file whenever the group occurs, so
it needs no notice; its lock only excludes programs that keep rows in memory.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ztrace.errors import DatabaseError, DatabaseForeign, DatabaseMissing, DatabaseNewer, NotFoundError
from ztrace_collector.layout import APPLICATION_ID, OPEN, RESOLVED, SCHEMA_VERSION
from ztrace_collector.storing.faults import explain

#: Wait for a collector's transaction, which takes a fraction of a second unless its disk is slow.
BUSY_TIMEOUT_S = 10.0


def resolve(path: Path, fingerprint: str, now_ns: int, *, reopen: bool = False) -> None:
    """Mark an exception group as resolved; the next occurrence marks it as regressed.

    Args:
        path: the database file.
        fingerprint: the full id of the group.
        now_ns: the time of resolution, Unix.
        reopen: mark the group as open instead.

    Raises:
        NotFoundError: there is no such group.
        DatabaseError: one of its subclasses; nothing has been changed.
    """
    _check_file(path)
    state, resolved_ns = (OPEN, None) if reopen else (RESOLVED, now_ns)
    uri = f"file:{quote(str(path.absolute()))}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as db:
            _check_identity(db, path)
            db.execute("BEGIN IMMEDIATE")
            changed = db.execute(
                "UPDATE exception_groups SET state = ?, resolved_ns = ? WHERE fingerprint = ?",
                (state, resolved_ns, fingerprint),
            ).rowcount
            if not changed:
                raise NotFoundError(f"no exception group {fingerprint}", hint="'ztrace errors' lists them")
            db.execute("COMMIT")
    except sqlite3.Error as error:
        raise explain(error, path) from error


def _check_file(path: Path) -> None:
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        raise DatabaseError(f"cannot look at {path}: {error}", hint="name another file with --db") from error
    if not exists:
        raise DatabaseMissing(f"there is no database {path}", hint="--db names another")
    if is_folder:
        raise DatabaseError(f"{path} is a folder", hint="name the file in it with --db")
    # Checked without opening the file: closing it would release locks that this process holds on it
    # elsewhere.
    if not os.access(path, os.W_OK):
        raise DatabaseError(f"{path} is not writable", hint="ask its owner for permission to write to it")


def _check_identity(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise DatabaseForeign(f"{path} is not a ztrace database", hint="name another file with --db")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise DatabaseNewer(f"a newer ztrace wrote {path}", hint="pip install --upgrade ztrace")
    if version < SCHEMA_VERSION:
        raise DatabaseError(
            f"an older ztrace wrote {path}", hint=f"'ztrace collect --db {path}' brings it up to date"
        )
