"""Which spans are stored already: asked for spans that come more than once without a number that tells.

One idea: a trace's spans are read when the first of it comes, and of a large trace they are remembered: it
comes in many parts, and reading all of it for each would take ever longer.
"""

import sqlite3
from collections.abc import Iterable

from ztrace_collector.checking.columns import Columns

#: Spans of a trace that are read each time: a millisecond.
MAX_READ = 1_000
#: Spans remembered of large traces, about 40 MB; of a trace with more the newest are compared alone.
MAX_REMEMBERED = 1 << 19


class KnownSpans:
    """The span ids that are stored of some traces."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._large: dict[bytes, set[bytes]] = {}

    def forget(self) -> None:
        """Drop what is in memory: the transaction it belongs to is rolled back."""
        self._large.clear()

    def drop(self, trace_ids: Iterable[bytes]) -> None:
        """Drop traces from memory whose rows are deleted."""
        for trace_id in trace_ids:
            self._large.pop(trace_id, None)

    def without(self, columns: Columns) -> Columns | None:
        """Return those spans of a batch that are not stored, each once; None if there are none."""
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
        """Remember what is stored now of traces that are remembered, whoever sent it."""
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
        """Drop those that were read first if there are too many."""
        while sum(map(len, self._large.values())) > MAX_REMEMBERED:
            del self._large[next(iter(self._large))]
