"""Detection of duplicates among spans without sequence numbers.

One idea: the stored spans of a trace are read when a span of it arrives. Those of a large trace are
remembered, because it arrives in many parts, and reading all of it for each part would take ever longer.
"""

import sqlite3
from collections.abc import Iterable

from ztrace_collector.checking.columns import Columns

#: Maximum of spans of a trace that are read each time, in a millisecond.
MAX_READ = 1_000
#: Spans remembered of large traces, in about 40 MB; of a larger trace, only the newest are compared.
MAX_REMEMBERED = 1 << 19


class KnownSpans:
    """Ids of stored spans of some traces."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._large: dict[bytes, set[bytes]] = {}

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._large.clear()

    def drop(self, trace_ids: Iterable[bytes]) -> None:
        """Drop traces from memory after their rows were deleted."""
        for trace_id in trace_ids:
            self._large.pop(trace_id, None)

    def without(self, columns: Columns) -> Columns | None:
        """Return the spans of a batch that are not stored, each once; None if there are none."""
        known = {
            trace_id: self._large.get(trace_id) or self._read(trace_id) for trace_id in set(columns.trace_id)
        }
        seen: set[tuple[bytes, bytes]] = set()
        is_new = []
        for key in zip(columns.trace_id, columns.span_id, strict=True):
            is_new.append(key not in seen and key[1] not in known[key[0]])
            seen.add(key)
        if all(is_new):
            return columns
        return columns.select(is_new) if any(is_new) else None

    def add(self, columns: Columns) -> None:
        """Remember stored spans of the traces that are remembered."""
        if not self._large or self._large.keys().isdisjoint(columns.trace_id):
            return
        for trace_id, span_id in zip(columns.trace_id, columns.span_id, strict=True):
            stored = self._large.get(trace_id)
            if stored is not None:
                stored.add(span_id)
        self._bound()

    def _read(self, trace_id: bytes) -> set[bytes]:
        stored = {
            span_id
            for (span_id,) in self._db.execute(
                "SELECT span_id FROM spans WHERE trace_id = ? ORDER BY id DESC LIMIT ?",
                (trace_id, MAX_REMEMBERED),
            )
        }
        if len(stored) > MAX_READ:
            self._large[trace_id] = stored
            self._bound()
        return stored

    def _bound(self) -> None:
        """Drop the traces that were read first while there are too many spans."""
        while sum(map(len, self._large.values())) > MAX_REMEMBERED:
            del self._large[next(iter(self._large))]
