"""Figures of methods in a file, kept by minute, hour and day."""

import sqlite3
from collections.abc import Collection, Iterator
from typing import NamedTuple

from ztrace_viewer.queries.rows import name_columns, read, read_one
from ztrace_viewer.queries.stores.answers import FiguresRow

_ROWS = (
    f"SELECT {name_columns(FiguresRow)} FROM method_figures"
    " WHERE resolution_s = ? AND bucket >= ? AND bucket < ?"
)


class _Edges(NamedTuple):
    """First and last bucket with figures."""

    first: int | None
    last: int | None


_EDGES = (
    f"SELECT {name_columns(_Edges, first='min(bucket)', last='max(bucket)')} FROM method_figures"
    " WHERE resolution_s = ? AND bucket >= ? AND bucket < ?"
)


class Figures:
    """Answers about figures of methods."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def figure_edges(self, resolution_s: int, first: int, end: int) -> tuple[int, int] | None:
        """Return the first and the last bucket that has figures, of those from the first to below the end."""
        edges = read_one(self.db, _Edges, _EDGES, (resolution_s, first, end))
        if edges is None or edges.first is None or edges.last is None:
            return None
        return edges.first, edges.last

    def figures(
        self, resolution_s: int, first: int, end: int, methods: Collection[int] | None
    ) -> Iterator[FiguresRow]:
        """Return the figures of methods in the buckets from the first to below the end."""
        if methods is None:
            return read(self.db, FiguresRow, _ROWS, (resolution_s, first, end))
        marks = ",".join("?" * len(methods))
        query = f"{_ROWS} AND method IN ({marks})"
        return read(self.db, FiguresRow, query, (resolution_s, first, end, *methods))
