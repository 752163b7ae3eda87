"""Versions of the services' processes, from OpenTelemetry's ``service.version``."""

import json
import sqlite3

#: Processes whose versions are kept in memory, and characters of a version.
SIZE, MAX_LENGTH = 10_000, 100


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
        """Return the version of a process, empty if it is unknown."""
        version = self._known.get(instance)
        if version is None:
            version = self._known[instance] = self._read(instance)
        return version

    def _read(self, instance: int) -> str:
        row = self._db.execute("SELECT resource FROM instances WHERE id = ?", (instance,)).fetchone()
        if row is None or row[0] is None:
            return ""
        version = json.loads(row[0]).get("service.version")
        return version[:MAX_LENGTH] if isinstance(version, str) else ""
