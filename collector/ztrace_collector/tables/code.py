"""Code that was sampled: the tables ``frames`` and ``stacks``, which are bounded.

One idea: stacks form a tree. A stack is its innermost frame below the stack of its caller, so stacks that
begin alike share rows. Beyond the bounds, a stack is cut to the part that is known, and no time is lost.
"""

import sqlite3

from ztrace_collector.checking.text import cut, is_whole, mended
from ztrace_collector.refusals import TOO_MANY_STACKS, Refusals
from ztrace_collector.tables.methods import MAX_SERVICES, OTHER

#: Maximum of stacks in a file, and of new ones of a service in an hour: a program has some thousands.
MAX_STACKS, MAX_NEW_STACKS = 1_000_000, 50_000
#: Characters kept of a file's path and of a function's name.
MAX_FILE, MAX_FUNCTION = 512, 256
#: Most frames of a stack: agents send fewer.
MAX_DEPTH = 256
#: Frames and stacks kept in memory.
SIZE = 150_000
#: Stack that has no frame: of time for which the code is unknown.
NO_STACK = 0


class Code:
    """Ids of frames and stacks: missing ones are inserted, and used ones are marked with the hour."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._hour = 0
        #: Ids that are marked with the hour.
        self._frames: dict[tuple[str, str, int], int] = {}
        self._stacks: dict[tuple[int, int], int] = {}
        self._marked: set[int] = set()
        #: Number of new stacks of each service in the hour.
        self._new: dict[str, int] = {}
        #: Number of stacks in the file; None to count them.
        self._count: int | None = None

    def forget(self) -> None:
        """Drop everything from memory after a rollback, or after rows were deleted."""
        self._frames.clear()
        self._stacks.clear()
        self._marked.clear()
        self._count = None

    def trim(self) -> None:
        """Bound the memory: rows are read again as they are used."""
        if len(self._frames) + len(self._stacks) + len(self._marked) > SIZE:
            self.forget()

    def begin(self, hour: int) -> None:
        """Set the hour of the rows that are used from now on."""
        if hour != self._hour:
            self.forget()
            self._new.clear()
            self._hour = hour

    def frame(self, file: str, function: str, line: int) -> int:
        """Return the id of a line of code."""
        key = file, function, line
        found = self._frames.get(key)
        if found is None:
            row = (_whole(file, MAX_FILE), _whole(function, MAX_FUNCTION), line, self._hour)
            (found,) = self._db.execute(
                "INSERT INTO frames (file, function, line, hour) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (file, function, line) DO UPDATE SET hour = excluded.hour RETURNING id",
                row,
            ).fetchone()
            self._frames[key] = found
        return found

    def stack(self, service: str, parent: int, frame: int, refusals: Refusals) -> int:
        """Return the id of a frame below a stack, or that of the stack itself beyond the bounds.

        Args:
            service: whose code it is.
            parent: id of the caller's stack, `NO_STACK` for an outermost frame.
            frame: id of the frame.
            refusals: counts the stacks beyond the bounds.
        """
        key = parent, frame
        found = self._stacks.get(key)
        if found is not None:
            return found
        row = self._db.execute("SELECT id FROM stacks WHERE parent = ? AND frame = ?", key).fetchone()
        if row is not None:
            (found,) = row
            self.use(found)
        else:
            if not self._admit(service):
                refusals.note(TOO_MANY_STACKS, f"of {service}")
                return parent
            cursor = self._db.execute(
                "INSERT INTO stacks (parent, frame, hour) VALUES (?, ?, ?)", (*key, self._hour)
            )
            found = int(cursor.lastrowid or 0)
            self._marked.add(found)
        self._stacks[key] = found
        return found

    def use(self, stack: int) -> bool:
        """Mark a stack and its callers with the hour; return whether the stack is there."""
        while stack != NO_STACK and stack not in self._marked:
            row = self._db.execute(
                "UPDATE stacks SET hour = max(hour, ?) WHERE id = ? RETURNING parent, frame",
                (self._hour, stack),
            ).fetchone()
            if row is None:
                return False
            self._marked.add(stack)
            stack, frame = row
            self._db.execute("UPDATE frames SET hour = max(hour, ?) WHERE id = ?", (self._hour, frame))
        return True

    def _admit(self, service: str) -> bool:
        """Return whether a new stack of a service may be inserted, and count it."""
        count = self._count
        if count is None:
            (count,) = self._db.execute("SELECT count(*) FROM stacks").fetchone()
        if service not in self._new and len(self._new) >= MAX_SERVICES:
            service = OTHER
        new = self._new.get(service, 0)
        is_admitted = bool(count < MAX_STACKS and new < MAX_NEW_STACKS)
        self._count = count + is_admitted
        self._new[service] = new + is_admitted
        return is_admitted


def _whole(text: str, length: int) -> str:
    return cut(text if is_whole(text) else mended(text), length)
