"""Damaged database files: detected, distinguished from other programs' files, and set aside.

One idea: no file is ever overwritten. A damaged file holds what was acknowledged, most of it readable; it
gets a new name, and the collector continues with a new file. A file that is not ztrace's stays where it is.
"""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ztrace.errors import DatabaseError
from ztrace_collector.layout import APPLICATION_ID
from ztrace_collector.storing.database import Lock
from ztrace_collector.storing.faults import is_corruption

#: Timeout of a check for another program's lock.
CHECK_TIMEOUT_S = 0.5
#: Place of ``application_id`` in SQLite's header.
_ID = slice(68, 72)
#: Size of SQLite's header, and the usual size of a page, the first of which may be lost.
_HEADER_BYTES, _PAGE_BYTES = 100, 4096
#: Line of ztrace's schema, which is in the first pages of each of its files, or still in the log.
_MARK = b"CREATE TABLE exception_minutes ("
#: Bytes searched for the mark.
_LOOKED_AT_BYTES = 1 << 20
#: Suffixes of the files that make up a database.
_PARTS = ("", "-wal", "-shm", "-journal")


def is_ours(path: Path) -> bool:
    """Return whether a file was written by ztrace, however damaged it is now."""
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


def is_sound(path: Path) -> bool:
    """Return whether SQLite's quick check of a file passes; the check reads the whole file.

    Raises:
        sqlite3.Error: the file cannot be checked at the moment.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=CHECK_TIMEOUT_S)) as db:
            db.text_factory = bytes
            return bool(db.execute("PRAGMA quick_check(1)").fetchone() == (b"ok",))
    except UnicodeDecodeError:
        return False  # The text of SQLite's error quotes a damaged table definition.
    except sqlite3.Error as error:
        if is_corruption(error):
            return False
        raise


def set_aside(path: Path) -> Path:
    """Rename a damaged file, and the log beside it, to an unused name.

    Returns:
        The new name.

    Raises:
        DatabaseError: another collector has the file open, or the file cannot be renamed.
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


def _free_name(path: Path) -> Path:
    first = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    name, number = first, 1
    while any(os.path.lexists(f"{name}{part}") for part in _PARTS):
        number += 1
        name = first.with_name(f"{first.name}-{number}")
    return name
