"""Names, services and kinds as numbers: the table ``methods``.

One idea: a dictionary that asks the database only for what it does not hold, so that a known method costs one
look-up.
"""

import sqlite3

from ztrace.wire import KIND_NAMES

#: Methods kept in memory; a program that puts ids into names would have one for each span.
SIZE = 50_000


class Methods(dict[tuple[str, str, int], int]):
    """Ids of methods by (service, name, kind's number); a new one gets its row when it is first asked for."""

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__()
        self._db = db

    def __missing__(self, key: tuple[str, str, int]) -> int:
        service, name, kind = key
        row = (service, name, KIND_NAMES[kind])
        self._db.execute("INSERT OR IGNORE INTO methods (service, name, kind) VALUES (?, ?, ?)", row)
        (method,) = self._db.execute(
            "SELECT id FROM methods WHERE service = ? AND name = ? AND kind = ?", row
        ).fetchone()
        self[key] = method
        return int(method)

    def trim(self) -> None:
        """Start over if there are too many: they come back as they are used."""
        if len(self) > SIZE:
            self.clear()
