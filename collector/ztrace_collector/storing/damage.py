"""Damaged files of ztrace's: told from other people's, and set aside.

One idea: a file is never overwritten. What was acknowledged is in it, and most of it can be read; it gets a
new name, and the collector goes on with a new file. A file that is not ztrace's stays where it is, whatever
is wrong with it.
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

#: How long a check waits for another program's lock.
CHECK_TIMEOUT_S = 0.5
#: Place of ``application_id`` in SQLite's header.
_ID = slice(68, 72)
#: The smallest and the usual size of a page: how much of a first page may be lost.
_HEADER_BYTES, _PAGE_BYTES = 100, 4096
#: A line of ztrace's schema: it is in the first pages of each of its files, or still in the log.
_MARK = b"CREATE TABLE exception_minutes ("
#: How far into a file the mark is looked for.
_LOOKED_AT_BYTES = 1 << 20
#: What belongs to a database file, by what its name has more.
_PARTS = ("", "-wal", "-shm", "-journal")


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


def is_sound(path: Path) -> bool:
    """Return whether SQLite's quick check finds nothing wrong with a file; it reads all of the file.

    Raises:
        sqlite3.Error: the file cannot be checked at the moment.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=CHECK_TIMEOUT_S)) as db:
            db.text_factory = bytes
            return bool(db.execute("PRAGMA quick_check(1)").fetchone() == (b"ok",))
    except UnicodeDecodeError:
        return False  # SQLite's error quotes a table's definition, which is no text any more.
    except sqlite3.Error as error:
        if is_corruption(error):
            return False
        raise


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


def _free_name(path: Path) -> Path:
    first = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    name, number = first, 1
    while any(os.path.lexists(f"{name}{part}") for part in _PARTS):
        number += 1
        name = first.with_name(f"{first.name}-{number}")
    return name
