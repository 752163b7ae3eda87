"""Rows to be inserted into a table, and rows kept in memory between transactions."""

import sqlite3
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Generic, TypeVar

#: Rows per statement: starting and ending a statement costs a fifth of inserting a small row, and more rows
#: than this gain nothing.
ROWS = 64

Key = TypeVar("Key", bound=Hashable)
Row = TypeVar("Row")


class Insert:
    """Statement that inserts rows into some columns of a table."""

    def __init__(self, table: str, columns: str) -> None:
        # An error rolls back the whole transaction. With ABORT, the default, SQLite would copy each page that
        # the rows change to a temporary file, to undo the statement alone.
        start = f"INSERT OR FAIL INTO {table} ({columns}) VALUES "
        row = f"({', '.join('?' * (columns.count(',') + 1))})"
        self._width = columns.count(",") + 1
        self._one = start + row
        self._many = start + ", ".join([row] * ROWS)

    def write(self, db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]], count: int) -> None:
        """Insert rows in their order; ``count`` is their number."""
        remaining = iter(rows)
        for _ in range(count // ROWS):
            db.execute(self._many, tuple(chain.from_iterable(islice(remaining, ROWS))))
        db.executemany(self._one, remaining)

    def write_columns(self, db: sqlite3.Connection, columns: Sequence[Sequence[Any]]) -> None:
        """Insert rows that are given as columns of equal length, of which no row is made in Python."""
        width, count = self._width, len(columns[0])
        values = [None] * (width * count)
        for place, column in enumerate(columns):
            values[place::width] = column
        step = width * ROWS
        whole = len(values) - len(values) % step
        for first in range(0, whole, step):
            db.execute(self._many, values[first : first + step])
        db.executemany(self._one, [values[at : at + width] for at in range(whole, len(values), width)])


class Recent(dict[Key, Row], Generic[Key, Row]):
    """Rows written most recently, up to a bound.

    One idea: most rows that a transaction touches are touched by the next as well, so they need not be read
    back. Each row equals its row in the database; a transaction that is rolled back must clear them.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def keep(self, written: Mapping[Key, Row]) -> None:
        """Make the written rows the newest, and drop the oldest rows beyond the bound."""
        for key in written:
            self.pop(key, None)
        self.update(written)
        for key in list(islice(self, max(0, len(self) - self.size))):
            del self[key]
