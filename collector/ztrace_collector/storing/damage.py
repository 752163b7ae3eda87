"""Damaged files of ztrace's: told from other people's, and set aside.

One idea: a file is never overwritten. What was acknowledged is in it, and most of it can be read; it gets a
new name, and the collector goes on with a new file. A file that is not ztrace's stays where it is, whatever
is wrong with it.
"""

import os
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ztrace.errors import DatabaseError, ZtraceError
from ztrace_collector.checking.parcels import Parcel
from ztrace_collector.layout import APPLICATION_ID, SCHEMA_VERSION
from ztrace_collector.storing.database import Lock
from ztrace_collector.storing.store import Store

#: Where SQLite's header has ``user_version`` and ``application_id``, four bytes each.
_VERSION, _ID = slice(60, 64), slice(68, 72)
#: The smallest and the usual size of a page: how much of a first page may be lost.
_HEADER_BYTES, _PAGE_BYTES = 100, 4096
#: A line of ztrace's schema: it is in the first pages of each of its files, or still in the log.
_MARK = b"CREATE TABLE exception_minutes ("
#: How far into a file the mark is looked for.
_LOOKED_AT_BYTES = 1 << 20
#: What belongs to a database file, by what its name has more.
_PARTS = ("", "-wal", "-shm", "-journal")

#: What a damaged file can make of a row that is read: text that is none, None for a number, no row at all.
PUZZLES = (sqlite3.Error, ArithmeticError, AssertionError, LookupError, TypeError, ValueError)


def is_ours(path: Path) -> bool:
    """Tell whether a file was written by ztrace, however damaged it is now."""
    try:
        with open(path, "rb") as file:
            page = file.read(_PAGE_BYTES)
            if len(page) >= _HEADER_BYTES and page[_ID] == APPLICATION_ID.to_bytes(4, "big"):
                return True
            if not page or any(page):
                return False
            # The first page is lost. Text and other programs' files do not begin with 4 KiB of zeros.
            if _MARK in file.read(_LOOKED_AT_BYTES):
                return True
        with open(f"{path}-wal", "rb") as file:
            return _MARK in file.read(_LOOKED_AT_BYTES)
    except OSError:
        return False


def is_up_to_date(path: Path) -> bool:
    """Tell whether a file is ztrace's and of this version: it opens unless it is damaged."""
    try:
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:
        return False
    return is_ours(path) and int.from_bytes(header[_VERSION], "big") == SCHEMA_VERSION


def set_aside(path: Path) -> Path:
    """Give a damaged file, and the log beside it, a new name that nothing has.

    Returns:
        The new name.

    Raises:
        DatabaseError: another collector has the file, or it cannot be renamed.
    """
    path = path.resolve()
    lock = Lock(path)
    try:
        name = _free_name(path)
        for part in _PARTS:
            if os.path.lexists(f"{path}{part}"):
                os.rename(f"{path}{part}", f"{name}{part}")
    except OSError as error:
        raise DatabaseError(
            f"{path} is damaged and cannot be renamed: {error.strerror}",
            hint="make its folder writable, or give another file with --db",
        ) from error
    finally:
        lock.release()
    return name


def fits_a_new_file(messages: Sequence[Sequence[bytes]], parcels: Sequence[Parcel] = ()) -> bool:
    """Tell whether a new, empty file takes what another refuses: then that one is damaged."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with Store(Path(folder) / "trial.db") as store:
                store.store(messages, parcels)
        except (ZtraceError, *PUZZLES):
            return False
    return True


def _free_name(path: Path) -> Path:
    first = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    name, number = first, 1
    while any(os.path.lexists(f"{name}{part}") for part in _PARTS):
        number += 1
        name = first.with_name(f"{first.name}-{number}")
    return name
