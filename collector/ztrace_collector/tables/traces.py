"""Traces, one row each, kept up to date with every span, in any order and division into batches.

One idea: a row consists of an extent in time, sums and a set over the trace's spans, so each span is added
alone and no span is read again. The root is the span without a parent that started first (of several at once,
the one with the lowest id). Until it arrives, the earliest span provides the method (of several at once, the
one with the lowest method). `extent` has the rules of start and end.

The service that has a root in a trace first keeps it: another's root that claims to have started earlier is
none.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from ztrace_collector.checking.columns import Columns
from ztrace_collector.layout import HOUR_NS, THINNED
from ztrace_collector.tables.extent import FAR_NS, extend, set_root
from ztrace_collector.tables.rows import Insert, Recent

#: Traces kept in memory, in about 30 MB: those of some seconds at the highest rate, while the spans of most
#: traces arrive within one second.
SIZE = 50_000
#: Maximum of services kept in memory, and of sets of services for each.
MAX_JOINED = 1000

#: Columns of ``traces``, in the order of `_row_of`; those after the first two change.
_COLUMNS = (
    "id",
    "trace_id",
    "root_span_id",
    "root_method",
    "start_ns",
    "end_ns",
    "duration_ns",
    "span_count",
    "error_count",
    "services",
    "hour",
)
_CHANGING = _COLUMNS[2:]
_INSERT = Insert("traces", ", ".join(_COLUMNS))
_UPDATE = f"UPDATE traces SET {', '.join(f'{name} = ?' for name in _CHANGING)} WHERE id = ?"
_ROOT = (
    "SELECT span_id, start_ns, duration_ns, method, service FROM spans JOIN instances"
    " ON instances.id = instance WHERE trace_id = ? AND parent_id IS NULL"
    " ORDER BY service <> ?, start_ns, span_id, duration_ns LIMIT 1"
)
_SELECT = (
    f"SELECT EXISTS (SELECT 1 FROM sealed_traces WHERE trace = id), {', '.join(_COLUMNS)} FROM traces"
    " WHERE trace_id = ?"
)


@dataclass(slots=True, eq=False)
class Trace:
    """Row of ``traces``.

    Attributes:
        root_start_ns: start of the root; None until it is read from the root's span.
        duration_ns: duration of the root; None while there is no root.
        batch: the last batch with a span of the trace.
        stored: True if the row exists already.
    """

    id: int
    trace_id: bytes
    root_method: int
    start_ns: int
    end_ns: int
    root_span_id: bytes | None = None
    root_start_ns: int | None = None
    root_service: str | None = None
    duration_ns: int | None = None
    span_count: int = 0
    error_count: int = 0
    services: str = "[]"
    batch: object = None
    stored: bool = False

    @property
    def shown_duration_ns(self) -> int:
        """Duration of the root, or of all spans together while there is no root."""
        return self.end_ns - self.start_ns if self.duration_ns is None else self.duration_ns


class Traces:
    """Table ``traces``, with its rows that belong to the transaction in progress."""

    def __init__(self, db: sqlite3.Connection, unseal: Callable[[Sequence[bytes]], None]) -> None:
        """Begin with nothing in memory.

        Args:
            db: the database.
            unseal: function that makes rows again of the spans of traces, before these change.
        """
        self._db = db
        self._unseal = unseal
        self._recent: Recent[bytes, Trace] = Recent(SIZE)
        self._written: dict[bytes, Trace] = {}
        self._next_id = 1
        #: JSON array of services with a service added, by service and array.
        self._joined: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self.forget()

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._recent.clear()
        self._written.clear()
        next_id, highest = self._db.execute(
            # Thinning may have deleted the last ones, and looks at those after its place alone.
            f"SELECT max(coalesce(max(id), 0), (SELECT value FROM settling WHERE name = '{THINNED}')) + 1,"
            " max(trace_id) FROM traces"
        ).fetchone()
        # Never below an id given before: readers that follow the table skip ids they have seen.
        self._next_id = max(self._next_id, next_id)
        self._highest: bytes = highest or b""

    def drop(self, trace_ids: Iterable[bytes]) -> None:
        """Drop traces from memory after their rows were deleted."""
        for trace_id in trace_ids:
            self._recent.pop(trace_id, None)

    def replace_root(self, trace_id: bytes, span_id: bytes, service: str) -> None:
        """Choose another root of a trace of this batch if a span that got a parent was its root.

        Args:
            trace_id: the trace.
            span_id: the span.
            service: the service of its new parent, whose roots come first.
        """
        trace = self._written[trace_id]
        row = self._db.execute(_ROOT, (trace_id, service)).fetchone()
        if trace.root_span_id != span_id or row is None:
            return
        trace.root_span_id, start_ns, trace.duration_ns, trace.root_method, trace.root_service = row
        set_root(trace, start_ns, start_ns + row[2])

    def add(
        self,
        service: str,
        columns: Columns,
        methods: Sequence[int],
        now_ns: int,
        has_other_root: Callable[[bytes, str], bool],
    ) -> None:
        """Add a batch's spans, just received, to their traces; `write` has to follow in the transaction.

        Args:
            service: whose spans they are.
            columns: the spans.
            methods: ids of their methods.
            now_ns: the time.
            has_other_root: function that returns whether the first unfinished root of a trace is of a service
                other than this.
        """
        batch = object()
        get, written, joined = self._recent.get, self._written, self._joined[service]
        # A trace that starts and ends between these is near all spans of the batch.
        near_from_ns, near_until_ns = max(columns.end_ns) - FAR_NS, min(columns.start_ns) + FAR_NS
        for trace_id, start_ns, end_ns, method, parent_id, span_id, duration_ns in zip(
            columns.trace_id,
            columns.start_ns,
            columns.end_ns,
            methods,
            columns.parent_id,
            columns.span_id,
            columns.duration_ns,
            strict=True,
        ):
            trace = get(trace_id)
            if trace is None:
                trace = self._find(trace_id, start_ns, end_ns, method)
            if trace.batch is not batch:
                trace.batch = batch
                trace.services = joined.get(trace.services) or self._join(trace.services, service)
                written[trace_id] = trace
            trace.span_count += 1
            before_ns, last_ns = trace.start_ns, trace.end_ns
            # The same as `extend`, without a call for each span that is near.
            if before_ns >= near_from_ns and last_ns <= near_until_ns:
                if end_ns > last_ns:
                    trace.end_ns = end_ns
                if start_ns < before_ns:
                    if before_ns != trace.root_start_ns:
                        trace.start_ns = start_ns
                        if trace.root_span_id is None:
                            trace.root_method = method
                elif start_ns == before_ns and trace.root_span_id is None and method < trace.root_method:
                    trace.root_method = method
            elif extend(trace, start_ns, end_ns, now_ns) and trace.root_span_id is None:
                moved = trace.start_ns != before_ns
                if moved or (start_ns == before_ns and method < trace.root_method):
                    trace.root_method = method
            if parent_id is None:
                if trace.root_span_id is None:
                    is_denied = has_other_root(trace_id, service)
                else:
                    is_denied = trace.root_service != service
                if not is_denied:
                    trace.root_service = service
                    self._add_root(trace, span_id, start_ns, duration_ns, method)
        for trace_id in compress(columns.trace_id, columns.status):  # The status ERROR alone is true.
            written[trace_id].error_count += 1

    def write(self) -> range:
        """Write the rows of traces with new spans.

        Returns:
            The ids of the new traces.
        """
        new = [trace for trace in self._written.values() if not trace.stored]
        known = [trace for trace in self._written.values() if trace.stored]
        _INSERT.write(self._db, map(_row_of, new), len(new))
        self._db.executemany(_UPDATE, [(*row[2:], row[0]) for row in map(_row_of, known)])
        for trace in new:
            trace.stored = True
        if new:
            self._highest = max(self._highest, max(trace.trace_id for trace in new))
        self._recent.keep(self._written)
        if len(self._joined) > MAX_JOINED:
            self._joined.clear()
        self._written.clear()
        return range(self._next_id - len(new), self._next_id)

    def _find(self, trace_id: bytes, start_ns: int, end_ns: int, method: int) -> Trace:
        """Return a trace that is not in memory, from its row, or new from the values of its first span."""
        trace = self._load(trace_id) if trace_id <= self._highest else None
        if trace is None:
            # Trace ids start with the time, so most new ones are higher than any stored one, and need no
            # query.
            trace = Trace(self._next_id, trace_id, method, start_ns, end_ns)
            self._next_id += 1
        self._recent[trace_id] = trace
        return trace

    def _load(self, trace_id: bytes) -> Trace | None:
        row = self._db.execute(_SELECT, (trace_id,)).fetchone()
        if row is None:
            return None
        is_sealed, *columns = row
        if is_sealed:
            self._unseal([trace_id])
        values = dict(zip(_COLUMNS, columns, strict=True))
        del values["hour"]
        trace = Trace(**values, stored=True)
        if trace.root_span_id is None:
            trace.duration_ns = None
        else:
            # Another service may have sent a span with the same id, and the root may have got a parent since.
            root = self._db.execute(
                "SELECT start_ns, service FROM spans JOIN instances ON instances.id = instance WHERE"
                " trace_id = ? AND span_id = ? ORDER BY parent_id IS NOT NULL, method <> ?, start_ns LIMIT 1",
                (trace_id, trace.root_span_id, trace.root_method),
            ).fetchone()
            if root is None:  # Its sealed spans are damaged.
                trace.root_span_id = trace.duration_ns = None
            else:
                trace.root_start_ns, trace.root_service = root
        return trace

    def _add_root(self, trace: Trace, span_id: bytes, start_ns: int, duration_ns: int, method: int) -> None:
        if trace.root_span_id is not None:
            assert trace.root_start_ns is not None
            assert trace.duration_ns is not None
            if (start_ns, span_id, duration_ns) >= (
                trace.root_start_ns,
                trace.root_span_id,
                trace.duration_ns,
            ):
                return
        trace.root_span_id = span_id
        set_root(trace, start_ns, start_ns + duration_ns)
        trace.duration_ns = duration_ns
        trace.root_method = method

    def _join(self, services: str, service: str) -> str:
        """Return the JSON array with the service added, cached because few sets of services occur."""
        names = sorted({*json.loads(services), service})
        joined = self._joined[service]
        if len(joined) >= MAX_JOINED:
            joined.clear()
        joined[services] = json.dumps(names, ensure_ascii=False, separators=(",", ":"))
        return joined[services]


def _row_of(trace: Trace) -> tuple[Any, ...]:
    """Return the row of a trace, in the order of `_COLUMNS`."""
    return (
        trace.id,
        trace.trace_id,
        trace.root_span_id,
        trace.root_method,
        trace.start_ns,
        trace.end_ns,
        trace.shown_duration_ns,
        trace.span_count,
        trace.error_count,
        trace.services,
        trace.start_ns // HOUR_NS,
    )
