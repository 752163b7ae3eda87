"""Versions of services, of which each process has one: the table ``versions``, which is bounded.

One idea: a version that was counted once counts under its own name for good, and so does one beyond the
bounds under ``(other)``. So what is subtracted from the figures later is what was added.
"""

import sqlite3

from ztrace_collector.tables.methods import OTHER

#: Processes whose versions are kept in memory.
SIZE = 10_000
#: Maximum of versions of a service, and of all: each has rows of figures of its own.
MAX_OF_SERVICE, MAX_VERSIONS = 1_000, 100_000


class Versions:
    """Versions by instance."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[int, str] = {}

    def trim(self) -> None:
        """Bound the memory."""
        if len(self._known) > SIZE:
            self._known.clear()

    def of(self, instance: int) -> str:
        """Return the version of a process, empty if it is unknown, ``(other)`` beyond the bounds."""
        version = self._known.get(instance)
        if version is None:
            version = self._known[instance] = self._read(instance)
        return version

    def _read(self, instance: int) -> str:
        row = self._db.execute("SELECT service, version FROM instances WHERE id = ?", (instance,)).fetchone()
        if row is None or not row[1]:
            return ""
        service, version = row
        return version if self._admit(service, version) else OTHER

    def _admit(self, service: str, version: str) -> bool:
        """Return whether a version of a service counts under its own name; a new one is inserted."""
        key = service, version
        if self._db.execute("SELECT 1 FROM versions WHERE service = ? AND version = ?", key).fetchone():
            return True
        (own,) = self._db.execute("SELECT count(*) FROM versions WHERE service = ?", (service,)).fetchone()
        (every,) = self._db.execute("SELECT count(*) FROM versions").fetchone()
        if own >= MAX_OF_SERVICE or every >= MAX_VERSIONS:
            return False
        self._db.execute("INSERT INTO versions (service, version) VALUES (?, ?)", key)
        return True
