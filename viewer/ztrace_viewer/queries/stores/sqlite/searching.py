"""Search of spans in a file.

One idea: ``traces`` has an index by hour that includes the start. Hours are read one by one from the end, and
SQLite leaves out the spans that cannot match.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ztrace.records import ERROR
from ztrace_collector.layout import RESOLUTIONS_S
from ztrace_collector.otlp.mapping.reading import StoredSpan, read_trace_after
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.queries.stores.answers import Candidate
from ztrace_viewer.queries.stores.conditions import SpanFilter, Tag, Wanted
from ztrace_viewer.queries.stores.matching import CallRow, ServiceCounts
from ztrace_viewer.queries.stores.sqlite.screening import leave_out
from ztrace_viewer.queries.stores.sqlite.spans import ENDED
from ztrace_viewer.trees.spans import SpanRow

_HOUR = "SELECT max(hour) FROM traces WHERE hour <= ?"
_BOUND = """
SELECT start_ns FROM traces WHERE hour = :hour AND start_ns >= :start AND start_ns <= :end
ORDER BY start_ns DESC LIMIT 1 OFFSET :size
"""
_TRACES = f"""
SELECT {name_columns(Candidate)} FROM traces
WHERE hour = :hour AND start_ns >= :start AND start_ns <= :end
    AND (:service IS NULL OR instr(services, :service)) AND end_ns - start_ns >= :least
ORDER BY start_ns DESC, id DESC
"""


_COUNT_COLUMNS = name_columns(
    ServiceCounts,
    spans="count(*)",
    errors=f"sum(status = {ERROR})",
    orphans="sum(parent_id IS NOT NULL"
    " AND parent_id NOT IN (SELECT span_id FROM all_spans WHERE trace_id = :trace))",
)
_COUNTS = f"""
SELECT {_COUNT_COLUMNS} FROM all_spans JOIN methods ON methods.id = method WHERE trace_id = :trace
GROUP BY service ORDER BY service
"""


class _Key(NamedTuple):
    """A span's row id, with its trace."""

    trace_id: bytes
    id: int


class Searching:
    """Answers of a search, and of Jaeger's API."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def last_hour(self, hour: int) -> int | None:
        """Return the last hour up to one in which traces began."""
        (found,) = self.db.execute(_HOUR, (hour,)).fetchone()
        return None if found is None else int(found)

    def page_start(self, hour: int, start_ns: int, end_ns: int, size: int) -> int | None:
        """Return the start of the trace behind a page's last one, None if the page has all of the hour."""
        bounds = {"hour": hour, "start": start_ns, "end": end_ns, "size": size}
        row = self.db.execute(_BOUND, bounds).fetchone()
        return None if row is None else int(row[0])

    def candidates(self, hour: int, wanted: Wanted) -> Iterator[Candidate]:
        """Yield the traces of an hour that meet the conditions, the newest first."""
        bounds = {"hour": hour, "start": wanted.start_ns, "end": wanted.end_ns}
        values = {**bounds, "service": wanted.service, "least": wanted.min_ns}
        return read(self.db, Candidate, _TRACES, values)

    def matching_spans(self, trace_ids: Sequence[bytes], matching: SpanFilter) -> Iterator[SpanRow]:
        """Yield the ended spans of some traces that a filter lets through, in the order of storing."""
        condition, values = _write(leave_out(self.db, trace_ids, matching), matching)
        return read(self.db, SpanRow, f"{ENDED} WHERE {condition} ORDER BY spans.id", values)

    def matching_traces(self, trace_ids: Sequence[bytes], matching: SpanFilter) -> set[bytes]:
        """Return those of some traces that have a span which a filter lets through."""
        condition, values = _write(leave_out(self.db, trace_ids, matching), matching)
        rows = self.db.execute(f"SELECT DISTINCT trace_id FROM all_spans WHERE {condition}", values)
        return {trace_id for (trace_id,) in rows}

    def matching_stored(
        self, trace_ids: Sequence[bytes], matching: SpanFilter, hidden: Collection[bytes]
    ) -> Iterator[StoredSpan]:
        """Yield the ended spans of some traces that a filter lets through, each read when it is asked for."""
        condition, values = _write(leave_out(self.db, trace_ids, matching), matching)
        query = f"SELECT {name_columns(_Key)} FROM all_spans WHERE {condition}"
        for key in read(self.db, _Key, query, values):
            if key.trace_id not in hidden:
                yield from read_trace_after(self.db, key.trace_id, key.id - 1, 1)

    def minutes_of(self, methods: Collection[int], first: int) -> list[int]:
        """Return the minutes since the first in which a call of any of the methods ended, in order."""
        query = (
            "SELECT DISTINCT bucket FROM method_figures WHERE resolution_s = ? AND bucket >= ?"
            f" AND method IN ({_marks(methods)}) ORDER BY bucket"
        )
        return [minute for (minute,) in self.db.execute(query, (RESOLUTIONS_S[0], first, *methods))]

    def count_by_service(self, trace_ids: Sequence[bytes]) -> dict[bytes, list[ServiceCounts]]:
        """Return the counts of each service in traces, by its name."""
        return {
            trace_id: list(read(self.db, ServiceCounts, _COUNTS, {"trace": trace_id}))
            for trace_id in trace_ids
        }

    def call_rows(self, trace_ids: Sequence[bytes], most: int) -> list[CallRow]:
        """Return the ended spans of some traces as calls, at most so many."""
        columns, among = name_columns(CallRow), _marks(trace_ids)
        query = f"SELECT {columns} FROM all_spans WHERE trace_id IN ({among}) LIMIT {most}"
        return list(read(self.db, CallRow, query, trace_ids))


def _write(trace_ids: Sequence[bytes], matching: SpanFilter) -> tuple[str, list[object]]:
    """Return a filter as a condition on the columns of ``spans``, and its values."""
    conditions, values = [f"trace_id IN ({_marks(trace_ids)})"], [*trace_ids]
    parts: list[tuple[str, Sequence[object]]] = []
    if matching.methods is not None:
        parts.append((f"method IN ({_marks(matching.methods)})", [*matching.methods]))
    if matching.min_ns is not None:
        parts.append(("duration_ns >= ?", [matching.min_ns]))
    if matching.max_ns is not None:
        parts.append(("duration_ns <= ?", [matching.max_ns]))
    if matching.failed is not None:
        parts.append((f"status {'=' if matching.failed else '<>'} ?", [ERROR]))
    parts += map(_write_tag, matching.tags)
    for text in matching.texts:
        others = f"method IN ({','.join(map(str, text.methods))}) OR status = {ERROR}"
        parts.append((f"({others} OR instr(lower(attributes), ?) > 0)", [text.written]))
    return (
        " AND ".join([*conditions, *(condition for condition, _ in parts)]),
        [*values, *(value for _, each in parts for value in each)],
    )


def _write_tag(tag: Tag) -> tuple[str, Sequence[object]]:
    columns = [("attributes", tag.of_span), ("details", tag.of_span), ("resource", tag.of_process)]
    conditions = [" AND ".join([f"instr({column}, ?) > 0"] * len(texts)) for column, texts in columns]
    conditions[2] = f"instance IN (SELECT id FROM instances WHERE {conditions[2]})"
    condition = " OR ".join(f"({each})" for each in conditions)
    if tag.or_failed:
        condition += f" OR status = {ERROR}"
    return f"({condition})", [text for _, texts in columns for text in texts]


def _marks(values: Collection[object]) -> str:
    return ",".join("?" * len(values))
