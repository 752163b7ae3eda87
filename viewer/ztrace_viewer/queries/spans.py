"""Spans of one trace: those that have ended, and those that have not, with the state of each.

`ztrace_viewer.trees.states` derives the state from what the publisher last reported.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from ztrace.records import ABANDONED, MEASURES, UNFINISHED
from ztrace_viewer.queries.names import Method
from ztrace_viewer.queries.rows import name_columns, read, read_pairs
from ztrace_viewer.trees.columns import Call, Process, Spans
from ztrace_viewer.trees.spans import SpanRow
from ztrace_viewer.trees.states import state_of_span

_ENDED = f"""
SELECT {name_columns(SpanRow, service="methods.service", unfinished="NULL")}
FROM spans JOIN methods ON methods.id = method JOIN instances ON instances.id = instance
"""


class _Placed(NamedTuple):
    """Columns of ``spans`` that place a span in its tree; of texts, only the keys."""

    span_id: bytes
    parent_id: bytes | None
    method: int
    instance: int
    start_ns: int
    duration_ns: int
    self_ns: int | None
    lane: int | None
    status: int


_PLACED = f"SELECT {name_columns(_Placed)} FROM spans WHERE trace_id = ? ORDER BY id"


class _Instance(NamedTuple):
    """A row of ``instances``."""

    id: int
    instance_id: str
    host: str


class _Report(NamedTuple):
    """The last report of a span without an end, and its publisher."""

    seen_ns: int
    state: str
    last_seen_ns: int


_OPEN_SPAN = name_columns(
    SpanRow,
    service="methods.service",
    **dict.fromkeys(("duration_ns", *MEASURES, "details", "unfinished"), "NULL"),
    status=str(UNFINISHED),
)
_OPEN = f"""
SELECT {name_columns(_Report, last_seen_ns="publishers.last_seen_ns")}, {_OPEN_SPAN}
FROM unfinished_spans JOIN methods ON methods.id = method
    JOIN instances ON instances.id = unfinished_spans.instance
    JOIN publishers ON publishers.instance = unfinished_spans.instance
"""
_R = TypeVar("_R", bound=NamedTuple)

#: The collector deletes a row once its span is stored; a copy of the file may still have both.
_OPEN_OF_TRACE = (
    "trace_id = ? AND NOT EXISTS (SELECT 1 FROM spans"
    " JOIN instances AS sources ON sources.id = spans.instance"
    " WHERE spans.trace_id = unfinished_spans.trace_id AND spans.span_id = unfinished_spans.span_id"
    " AND sources.service = instances.service)"
)


def read_spans(db: sqlite3.Connection, condition: str, values: Sequence[object]) -> Iterator[SpanRow]:
    """Yield the ended spans that satisfy a condition on the columns of ``spans``, in the order of storing.

    Args:
        db: from `open_database`.
        condition: on the columns of ``spans``.
        values: parameters of the condition.
    """
    return read(db, SpanRow, f"{_ENDED} WHERE {condition} ORDER BY spans.id", values)


def read_columns(db: sqlite3.Connection, trace_id: bytes) -> Spans:
    """Return the ended spans of a trace in columns, in the order of storing."""
    cursor = db.execute(_PLACED, (trace_id,))
    columns = [*zip(*cursor, strict=True)] or [()] * len(_Placed._fields)
    span_ids, parent_ids, methods, instances, starts_ns, durations_ns, selfs_ns, lanes, statuses = columns
    calls = {
        row.id: Call(row.service, row.name, row.kind) for row in _read_keys(db, Method, "methods", methods)
    }
    processes = {
        row.id: Process(row.instance_id, row.host)
        for row in _read_keys(db, _Instance, "instances", instances)
    }
    return Spans(
        span_ids,
        parent_ids,
        [calls[method] for method in methods],
        [processes[instance] for instance in instances],
        starts_ns,
        durations_ns,
        selfs_ns,
        lanes,
        statuses,
        {},
    )


def _read_keys(db: sqlite3.Connection, row: type[_R], table: str, keys: Iterable[int]) -> Iterator[_R]:
    """Yield the rows of a table with some keys."""
    among = ",".join(map(str, set(keys)))
    return read(db, row, f"SELECT {name_columns(row)} FROM {table} WHERE id IN ({among})")


def read_open_spans_of(db: sqlite3.Connection, trace_id: bytes, now_ns: int) -> list[SpanRow]:
    """Return the spans of a trace that have not ended."""
    return list(read_open_spans(db, now_ns, _OPEN_OF_TRACE, (trace_id,)))


def read_open_spans(
    db: sqlite3.Connection, now_ns: int, condition: str, values: Sequence[object] = ()
) -> Iterator[SpanRow]:
    """Yield the spans without an end that satisfy a condition on the columns of ``unfinished_spans``."""
    query = f"{_OPEN} WHERE {condition} ORDER BY unfinished_spans.id"
    for report, span in read_pairs(db, _Report, SpanRow, query, values):
        abandoned = span.read_attributes().get(ABANDONED) is True
        state = state_of_span(report.state, report.last_seen_ns, report.seen_ns, abandoned, now_ns)
        yield span._replace(unfinished=state)


def find_root(spans: Sequence[SpanRow]) -> SpanRow:
    """Return the root among open spans of one trace, or the earliest span if there is none.

    Args:
        spans: the spans, at least one, those reported first before others.
    """
    roots = [span for span in spans if span.parent_id is None]
    # The service that has a root first keeps it.
    candidates = [span for span in roots if span.service == roots[0].service] or spans
    return min(candidates, key=lambda span: (span.start_ns, span.span_id))
