"""Detection of duplicates among spans without sequence numbers.

One idea: the stored spans of a trace are read when a span of it arrives. Those of a large trace are
remembered, because it arrives in many parts, and reading all of it for each part would take ever longer. Of
each span its method and start are known, which tell a duplicate from another span with the same id.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from ztrace_collector.checking.columns import Columns

#: Maximum of spans of a trace that are read each time, in a millisecond.
MAX_READ = 1_000
#: Spans remembered of large traces, in about 50 MB; of a larger trace, only the newest are compared.
MAX_REMEMBERED = 1 << 18
#: Bits of a mark below the method: a start is less than 2**63.
_START_BITS = 63


def make_mark(method: int, start_ns: int) -> int:
    """Return a span's method and start as one integer, which takes less memory than two."""
    return method << _START_BITS | start_ns


def read_mark(mark: int) -> tuple[int, int]:
    """Return the method and the start of a mark."""
    return mark >> _START_BITS, mark & ((1 << _START_BITS) - 1)


class KnownSpans:
    """Ids and marks of stored spans of some traces."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._large: dict[bytes, dict[bytes, int]] = {}
        #: Traces of the batch that was split last.
        self._current: dict[bytes, dict[bytes, int]] = {}

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._large.clear()
        self._current.clear()

    def drop(self, trace_ids: Iterable[bytes]) -> None:
        """Drop traces from memory after their rows were deleted."""
        for trace_id in trace_ids:
            self._large.pop(trace_id, None)

    def split(self, columns: Columns) -> tuple[Columns | None, Columns | None]:
        """Return the spans of a batch whose ids are not stored, each id once, and the other spans."""
        known = self._current = {
            trace_id: self._large.get(trace_id) or self._read(trace_id) for trace_id in set(columns.trace_id)
        }
        seen: set[tuple[bytes, bytes]] = set()
        is_new = []
        for key in zip(columns.trace_id, columns.span_id, strict=True):
            is_new.append(key not in seen and key[1] not in known[key[0]])
            seen.add(key)
        if all(is_new):
            return columns, None
        again = columns.select([not each for each in is_new])
        return columns.select(is_new) if any(is_new) else None, again

    def of_trace(self, trace_id: bytes) -> Mapping[bytes, int]:
        """Return the marks of a trace of the batch that was split last, with the spans added since."""
        return self._current[trace_id]

    def add(self, columns: Columns, methods: Sequence[int]) -> None:
        """Remember stored spans of the traces that are remembered."""
        traces = self._large | self._current
        if not traces or traces.keys().isdisjoint(columns.trace_id):
            return
        for trace_id, span_id, method, start_ns in zip(
            columns.trace_id, columns.span_id, methods, columns.start_ns, strict=True
        ):
            stored = traces.get(trace_id)
            if stored is not None:
                stored[span_id] = make_mark(method, start_ns)
        self._bound()

    def _read(self, trace_id: bytes) -> dict[bytes, int]:
        rows = self._db.execute(
            "SELECT span_id, method, start_ns FROM spans WHERE trace_id = ? ORDER BY id DESC LIMIT ?",
            (trace_id, MAX_REMEMBERED),
        ).fetchall()
        # The first span of an id counts, as in trees.
        stored = {span_id: make_mark(method, start_ns) for span_id, method, start_ns in rows}
        if len(stored) > MAX_READ:
            self._large[trace_id] = stored
            self._bound()
        return stored

    def _bound(self) -> None:
        """Drop the traces that were read first while there are too many spans."""
        while sum(map(len, self._large.values())) > MAX_REMEMBERED:
            del self._large[next(iter(self._large))]
