"""Spans of one trace: those that have ended, and those that have not, with the state of each.

`ztrace_viewer.trees.states` derives the state from what the publisher last reported.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ztrace.records import ABANDONED, MEASURES, UNFINISHED
from ztrace_viewer.queries.rows import name_columns, read, read_pairs
from ztrace_viewer.trees.spans import SpanRow
from ztrace_viewer.trees.states import state_of_span

#: Fields that are JSON, and the state of spans without an end.
_IN_FULL = ("attributes", "links", "details", "resource", "unfinished")
_ENDED = f"""
SELECT {name_columns(SpanRow, service="methods.service", unfinished="NULL")}
FROM spans JOIN methods ON methods.id = method JOIN instances ON instances.id = instance
"""
#: The same without what only one span in full shows, which is most of the bytes.
_BARE = f"""
SELECT {name_columns(SpanRow, service="methods.service", **dict.fromkeys(_IN_FULL, "NULL"))}
FROM spans JOIN methods ON methods.id = method JOIN instances ON instances.id = instance
"""


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
#: The collector deletes a row once its span is stored; a copy of the file may still have both.
_OPEN_OF_TRACE = (
    "trace_id = ? AND NOT EXISTS (SELECT 1 FROM spans"
    " JOIN instances AS sources ON sources.id = spans.instance"
    " WHERE spans.trace_id = unfinished_spans.trace_id AND spans.span_id = unfinished_spans.span_id"
    " AND sources.service = instances.service)"
)


def read_spans(
    db: sqlite3.Connection, condition: str, values: Sequence[object], *, bare: bool = False
) -> Iterator[SpanRow]:
    """Yield the ended spans that satisfy a condition on the columns of ``spans``, in the order of storing.

    Args:
        db: from `open_database`.
        condition: on the columns of ``spans``.
        values: parameters of the condition.
        bare: leave out attributes, links, details and resources.
    """
    return read(db, SpanRow, f"{_BARE if bare else _ENDED} WHERE {condition} ORDER BY spans.id", values)


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
