"""Traces that began in a stretch of time, the newest first.

One idea: ``traces`` has an index by hour that includes the start. Hours are read one by one from the end,
and within an hour in pages of growing size: most searches are complete after the first few hundred traces.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from ztrace.records import ERROR
from ztrace_collector.layout import HOUR_NS
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.terminal.durations import UNITS_NS

#: Traces of the first page and of the largest; each page scans its hour's part of the index twice.
FIRST_PAGE, LAST_PAGE = 128, 16_384
#: Traces of a page in memory at once.
CHUNK = 1024


class Candidate(NamedTuple):
    """A row of ``traces``."""

    trace_id: bytes
    root_span_id: bytes | None
    root_method: int
    start_ns: int
    end_ns: int
    span_count: int
    services: str


class Wanted(NamedTuple):
    """Conditions on traces of a search.

    Attributes:
        start_ns: earliest start.
        end_ns: latest start.
        service: one of their services, as JSON; None for any.
        min_ns: shortest time from their first start to their last end.
    """

    start_ns: int
    end_ns: int
    service: str | None = None
    min_ns: int = 0


class Page(NamedTuple):
    """Some traces, and the time back to which the search has come."""

    traces: list[Candidate]
    since_ns: int


class ServiceCounts(NamedTuple):
    """Ended spans of one service in a trace; ``orphans`` have a parent that is not stored."""

    service: str
    spans: int
    errors: int
    orphans: int


_COUNT_COLUMNS = name_columns(
    ServiceCounts,
    spans="count(*)",
    errors=f"sum(status = {ERROR})",
    orphans="sum(parent_id IS NOT NULL"
    " AND parent_id NOT IN (SELECT span_id FROM spans WHERE trace_id = :trace))",
)
_COUNTS = f"""
SELECT {_COUNT_COLUMNS} FROM spans JOIN methods ON methods.id = method WHERE trace_id = :trace
GROUP BY service ORDER BY service
"""
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


def read_pages(db: sqlite3.Connection, wanted: Wanted) -> Iterator[Page]:
    """Yield the traces that meet the conditions, the newest first."""
    size, last_hour = FIRST_PAGE, wanted.end_ns // HOUR_NS
    while True:
        (hour,) = db.execute(_HOUR, (last_hour,)).fetchone()
        if hour is None or hour < wanted.start_ns // HOUR_NS:
            return
        last_hour = hour - 1
        start_ns = max(wanted.start_ns, hour * HOUR_NS)
        end_ns = min(wanted.end_ns, (hour + 1) * HOUR_NS - 1)
        while start_ns <= end_ns:
            bounds = {"hour": hour, "start": start_ns, "end": end_ns}
            # First trace beyond the page; traces that began at the same time stay together.
            row = db.execute(_BOUND, {**bounds, "size": size}).fetchone()
            since_ns = start_ns if row is None else min(end_ns, row[0] + 1)
            values = {"service": wanted.service, "least": wanted.min_ns}
            rows = read(db, Candidate, _TRACES, {**bounds, "start": since_ns, **values})
            while chunk := list(islice(rows, CHUNK)):
                yield Page(chunk, chunk[-1].start_ns)
            yield Page([], since_ns)
            end_ns = since_ns - 1
            size = min(LAST_PAGE, 2 * size)


def split(traces: Sequence[Candidate], size: int, spans: int) -> Iterator[list[Candidate]]:
    """Yield traces in chunks, at least one in each, of a number of traces and of spans."""
    chunk: list[Candidate] = []
    room = spans
    for trace in traces:
        if chunk and (trace.span_count > room or len(chunk) == size):
            yield chunk
            chunk, room = [], spans
        chunk.append(trace)
        room -= trace.span_count
    if chunk:
        yield chunk


def count_by_service(db: sqlite3.Connection, trace_id: bytes) -> list[ServiceCounts]:
    """Return the counts of each service in a trace, by its name."""
    return list(read(db, ServiceCounts, _COUNTS, {"trace": trace_id}))


def explain_end(since_ns: int, deadline: Deadline) -> str:
    """Return a note on the time back to which the search came before the deadline."""
    since = datetime.fromtimestamp(since_ns // UNITS_NS["s"], UTC)
    return f"searched back to {since:%Y-%m-%dT%H:%M:%SZ} within {deadline.limit_s:g} s; select a shorter time"
