"""Unfinished spans: the table ``unfinished_spans``.

One idea: the ids of unfinished spans are kept in memory, so a batch of ended spans costs one set operation. A
report of a span whose end is stored already is ignored, whichever way it came.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ztrace_collector.checking.columns import Columns, link_texts
from ztrace_collector.refusals import UNFINISHED, Refusals

#: Maximum of rows of one publisher, which is what a publisher reports at most; and of all, which bounds the
#: memory.
MAX_OF_INSTANCE, MAX_ROWS = 10_000, 100_000
#: Newest spans of a trace that are searched for the end of a span reported as unfinished; if stored, the end
#: arrived just before. Without a bound, one large trace would delay everything.
MAX_LOOKED_AT = 10_000

_UPSERT = """
INSERT INTO unfinished_spans (trace_id, span_id, parent_id, method, instance, start_ns, seen_ns, attributes,
    links, details)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (trace_id, span_id) DO UPDATE SET seen_ns = excluded.seen_ns, attributes = excluded.attributes,
    links = excluded.links, details = excluded.details
"""

#: (trace_id, span_id)
_Key = tuple[bytes, bytes]


class Unfinished:
    """Table ``unfinished_spans``, with the ids of its rows."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        #: Instance of each unfinished span by span id, which batches are compared with, and by trace id.
        self._open: dict[bytes, dict[bytes, int]] = {}
        self._counts: Counter[int] = Counter()
        self._written: dict[_Key, tuple[Any, ...]] = {}
        self._ended: list[_Key] = []
        self.forget()

    def forget(self) -> None:
        """Read the ids again, after a rollback or a deletion of rows."""
        self._open.clear()
        self._counts.clear()
        self._written.clear()
        self._ended.clear()
        for trace_id, span_id, instance in self._db.execute(
            "SELECT trace_id, span_id, instance FROM unfinished_spans"
        ):
            self._keep(trace_id, span_id, instance)

    def drop(self, trace_ids: Iterable[bytes]) -> None:
        """Drop traces from memory after their rows were deleted."""
        gone = set(trace_ids)
        for span_id in list(self._open):
            for trace_id in gone & self._open[span_id].keys():
                self._let_go(trace_id, span_id)

    def add(
        self, instance: int, columns: Columns, methods: Sequence[int], now_ns: int, refusals: Refusals
    ) -> int:
        """Add or update unfinished spans; `write` has to follow in the same transaction.

        Spans beyond the limits are counted as refused.

        Returns:
            The number of new rows.
        """
        rows = {
            (trace_id, span_id): (trace_id, span_id, parent_id, method, instance, start_ns, now_ns, *texts)
            for trace_id, span_id, parent_id, method, start_ns, *texts in zip(
                columns.trace_id,
                columns.span_id,
                columns.parent_id,
                methods,
                columns.start_ns,
                columns.attributes,
                link_texts(columns),
                columns.details,
                strict=True,
            )
        }
        new = {key for key in rows if key[0] not in self._open.get(key[1], ())}
        new.difference_update(self._ended_of({trace_id for trace_id, _ in new}))
        refused = 0
        for key, row in rows.items():
            trace_id, span_id = key
            if key in new:
                if self._counts[instance] >= MAX_OF_INSTANCE or self._counts.total() >= MAX_ROWS:
                    refused += 1
                    continue
                self._keep(trace_id, span_id, instance)
            elif self._open.get(span_id, {}).get(trace_id) != instance:
                continue  # The span has ended, or belongs to another process.
            self._written[key] = row
        if refused:
            refusals.note(UNFINISHED, f"unfinished spans beyond {MAX_OF_INSTANCE:,} of a publisher", refused)
        return len(new) - refused

    def end(self, columns: Columns) -> None:
        """Remove spans whose end is stored now; `write` has to follow in the same transaction."""
        if not self._open or self._open.keys().isdisjoint(columns.span_id):
            return
        for trace_id, span_id in zip(columns.trace_id, columns.span_id, strict=True):
            if trace_id in self._open.get(span_id, ()):
                self._let_go(trace_id, span_id)
                self._ended.append((trace_id, span_id))

    def write(self) -> None:
        """Write the changed rows."""
        if self._written:
            self._db.executemany(_UPSERT, self._written.values())
            self._written.clear()
        if self._ended:
            self._db.executemany(
                "DELETE FROM unfinished_spans WHERE trace_id = ? AND span_id = ?", self._ended
            )
            self._ended.clear()

    def _keep(self, trace_id: bytes, span_id: bytes, instance: int) -> None:
        self._open.setdefault(span_id, {})[trace_id] = instance
        self._counts[instance] += 1

    def _let_go(self, trace_id: bytes, span_id: bytes) -> None:
        traces = self._open[span_id]
        self._counts[traces.pop(trace_id)] -= 1
        if not traces:
            del self._open[span_id]
        self._written.pop((trace_id, span_id), None)

    def _ended_of(self, trace_ids: Iterable[bytes]) -> Iterator[_Key]:
        """Yield the newest spans of traces whose end is stored."""
        for trace_id in trace_ids:
            for (span_id,) in self._db.execute(
                "SELECT span_id FROM spans WHERE trace_id = ? ORDER BY id DESC LIMIT ?",
                (trace_id, MAX_LOOKED_AT),
            ):
                yield trace_id, span_id
