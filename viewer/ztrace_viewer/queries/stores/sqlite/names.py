"""Names and ids in a file.

One idea: ``methods`` holds every name that ever occurred, once for each kind, so no span is read.
"""

import sqlite3
from collections.abc import Sequence

from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.queries.stores.answers import Method

#: Tables with trace ids: a trace of which no span has ended has no row in ``traces``.
_TRACE_TABLES = ("traces", "unfinished_spans")


class Names:
    """Answers about names and ids."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def methods(self) -> dict[int, Method]:
        """Return every method by its id."""
        rows = read(self.db, Method, f"SELECT {name_columns(Method)} FROM methods")
        return {method.id: method for method in rows}

    def trace_ids(self, ranges: Sequence[tuple[bytes, bytes]], limit: int) -> list[bytes]:
        """Return trace ids between the two of each range, so many of each table."""
        return [
            bytes(trace_id)
            for first, last in ranges
            for table in _TRACE_TABLES
            for (trace_id,) in self.db.execute(
                f"SELECT DISTINCT trace_id FROM {table} WHERE trace_id BETWEEN ? AND ?"
                " ORDER BY trace_id LIMIT ?",
                (first, last, limit),
            )
        ]

    def nearest_traces(self, trace_ids: Sequence[bytes]) -> list[bytes]:
        """Return the trace ids that are stored next before and after each of some, in each table."""
        return [
            value
            for trace_id in trace_ids
            for table in _TRACE_TABLES
            for query in (
                f"SELECT max(trace_id) FROM {table} WHERE trace_id < ?",
                f"SELECT min(trace_id) FROM {table} WHERE trace_id > ?",
            )
            for (value,) in self.db.execute(query, (trace_id,))
            if value is not None
        ]

    def find_thinned(self, first: bytes, last: bytes) -> bytes | None:
        """Return a thinned trace from the first id to the last, None if there is none."""
        query = "SELECT min(trace_id) FROM thinned_traces WHERE trace_id BETWEEN ? AND ?"
        (found,) = self.db.execute(query, (first, last)).fetchone()
        return None if found is None else bytes(found)

    def group_ids(self, first: str, end: str, limit: int) -> list[str]:
        """Return the fingerprints of exception groups from the first to below the end, in order."""
        rows = self.db.execute(
            "SELECT fingerprint FROM exception_groups WHERE fingerprint >= ? AND fingerprint < ?"
            " ORDER BY fingerprint LIMIT ?",
            (first, end, limit),
        )
        return [fingerprint for (fingerprint,) in rows]

    def nearest_groups(self, fingerprints: Sequence[str]) -> list[str]:
        """Return the fingerprints that are stored next before and after each of some."""
        return [
            value
            for fingerprint in fingerprints
            for query in (
                "SELECT max(fingerprint) FROM exception_groups WHERE fingerprint < ?",
                "SELECT min(fingerprint) FROM exception_groups WHERE fingerprint > ?",
            )
            for (value,) in self.db.execute(query, (fingerprint,))
            if value is not None
        ]
