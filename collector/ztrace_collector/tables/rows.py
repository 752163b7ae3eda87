"""Many rows into one table.

One idea: starting and ending a statement costs a fifth of inserting a small row, so rows go in many to a
statement.
"""

import sqlite3
from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

#: Rows of one statement; with more of them there is nothing left to gain.
ROWS = 64


class Insert:
    """A statement that inserts rows into the columns of a table."""

    def __init__(self, table: str, columns: str) -> None:
        start = f"INSERT INTO {table} ({columns}) VALUES "
        row = f"({', '.join('?' * (columns.count(',') + 1))})"
        self._one = start + row
        self._many = start + ", ".join([row] * ROWS)

    def write(self, db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]], count: int) -> None:
        """Insert the rows, of which there are ``count``, in their order."""
        remaining = iter(rows)
        for _ in range(count // ROWS):
            db.execute(self._many, tuple(chain.from_iterable(islice(remaining, ROWS))))
        db.executemany(self._one, remaining)
