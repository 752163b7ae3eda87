"""Faults of a database file: SQLite's errors explained and classified by what can be done about them."""

import sqlite3
from pathlib import Path

from ztrace.errors import DatabaseBlocked, DatabaseCorrupt, DatabaseError, ZtraceError

#: Hint where a file cannot be used.
OTHER_FILE = "give another file with --db"

#: Kinds of SQLite's errors: the file is damaged, or not a database;
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
#: another program holds a lock; the machine fails, perhaps for a moment;
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_FAILING = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL)
#: the file is not accessible, which says nothing about its content.
_ACCESS = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)


def explain(error: sqlite3.Error, path: Path) -> DatabaseError:
    """Return the error to raise for an error of SQLite's, which becomes its cause."""
    explained = _explain(error, path)
    explained.__cause__ = error
    return explained


def is_of_access(error: Exception) -> bool:
    """Return whether an error concerns access to the file, and not its content."""
    return type(error) is DatabaseError and (_kind(error) is None or _kind(error) in _ACCESS)


def is_corruption(error: sqlite3.Error) -> bool:
    """Return whether SQLite reports that the file is damaged."""
    return _kind(error) in _CORRUPT


def is_defect(error: Exception) -> bool:
    """Return whether an error is unforeseen: an internal error of ztrace, or damage of the file."""
    if type(error) is DatabaseError:
        return _kind(error) is not None and _kind(error) not in _ACCESS
    return isinstance(error, DatabaseCorrupt) or not isinstance(error, ZtraceError)


def is_usual(error: Exception) -> bool:
    """Return whether a connection is known to work after an error."""
    return _kind(error) in (None, sqlite3.SQLITE_FULL, *_LOCKED)


def _kind(error: BaseException) -> int | None:
    """Return the kind of SQLite's error that an error is or is caused by, None for any other error."""
    cause = error if isinstance(error, sqlite3.Error) else error.__cause__
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF if isinstance(cause, sqlite3.Error) else None


def _explain(error: sqlite3.Error, path: Path) -> DatabaseError:
    kind = _kind(error)
    if kind == sqlite3.SQLITE_NOTADB:
        return DatabaseCorrupt(f"{path} is not an SQLite database", hint=OTHER_FILE)
    if kind == sqlite3.SQLITE_CORRUPT:
        return DatabaseCorrupt(
            f"{path} is damaged: {error}",
            hint=f"save what is readable with 'sqlite3 {path.name} .recover', and {OTHER_FILE}",
        )
    if kind in _LOCKED:
        return DatabaseBlocked(f"another program is writing to {path}", hint="end its transaction")
    if kind == sqlite3.SQLITE_FULL:
        return DatabaseBlocked(f"no space for {path}", hint="free some space")
    if kind in _FAILING:
        name = getattr(error, "sqlite_errorname", "")
        return DatabaseBlocked(
            f"cannot write to {path}: {error} ({name})", hint="check the disk and its limits"
        )
    if kind in _ACCESS:
        return DatabaseError(
            f"cannot write to {path}: {error}", hint=f"make it and its folder writable, or {OTHER_FILE}"
        )
    return DatabaseError(f"cannot write to {path}: {error}", hint=f"check the disk, or {OTHER_FILE}")
