"""Existing database files, as programs beside the collector open them.

One idea: the reader and the programs that change a row reject the same files, with the same words.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from ztrace.errors import DatabaseCorrupt, DatabaseError, DatabaseForeign, DatabaseMissing, DatabaseNewer
from ztrace_collector.layout import APPLICATION_ID, SCHEMA_VERSION
from ztrace_collector.storing.faults import OTHER_FILE, explain
from ztrace_collector.tables.schema import expected_columns, read_columns

#: Wait for a collector's transaction, which takes a fraction of a second unless its disk is slow.
BUSY_TIMEOUT_S = 10.0


def check_file(path: Path, *, for_writing: bool) -> None:
    """Check that a file can be opened, without opening it: closing would release the process's locks on it.

    Raises:
        DatabaseError: one of its subclasses.
    """
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        raise DatabaseError(f"cannot open {path}: {error}", hint=OTHER_FILE) from error
    if not exists:
        raise DatabaseMissing(
            f"there is no database {path}",
            hint=f"create one with 'ztrace up' or 'ztrace demo', or {OTHER_FILE}",
        )
    if is_folder:
        raise DatabaseError(f"{path} is a folder", hint="give a file in it with --db")
    mode, doing = (os.W_OK, "write to") if for_writing else (os.R_OK, "read")
    if not os.access(path, mode, effective_ids=os.access in os.supports_effective_ids):
        raise DatabaseError(f"cannot {doing} {path}: permission denied", hint="ask its owner for permission")


def check_identity(db: sqlite3.Connection, path: Path) -> None:
    """Reject a file of another program, or with the schema of another version of ztrace.

    Raises:
        DatabaseError: one of its subclasses.
    """
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise DatabaseForeign(f"{path} is not a ztrace database", hint=OTHER_FILE)
    version = db.execute("PRAGMA user_version").fetchone()[0]
    schemas = f"schema {version}, this one has {SCHEMA_VERSION}"
    if version > SCHEMA_VERSION:
        raise DatabaseNewer(
            f"{path} was written by a newer ztrace ({schemas})", hint="pip install --upgrade ztrace"
        )
    if version < SCHEMA_VERSION:
        raise DatabaseError(
            f"{path} was written by an older ztrace ({schemas})",
            hint=f"upgrade it with 'ztrace collect --db {path}'",
        )
    check_tables(db, path)


def check_tables(db: sqlite3.Connection, path: Path) -> None:
    """Reject a file that lacks a table or a column: one of a development version, or changed or damaged.

    Raises:
        DatabaseCorrupt: something is missing.
    """
    missing = sorted(expected_columns() - read_columns(db))
    if missing:
        raise DatabaseCorrupt(
            f"{path} was written by another version of ztrace, or is damaged: it has no {missing[0]}",
            hint=OTHER_FILE,
        )


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection within a transaction, committed at the end, to change a row beside a collector.

    Raises:
        DatabaseError: one of its subclasses; nothing has been changed.
    """
    check_file(path, for_writing=True)
    uri = f"file:{quote(str(path.absolute()))}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as db:
            check_identity(db, path)
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
    except sqlite3.Error as error:
        raise explain(error, path) from error
