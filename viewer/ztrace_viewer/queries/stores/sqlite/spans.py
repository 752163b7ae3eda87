"""Spans of one trace in a file: those that have ended, and those that have not, with their exceptions.

`ztrace_viewer.trees.states` derives the state of an open span from what the publisher last reported.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from ztrace.records import ABANDONED, INT64_MAX, MEASURES, UNFINISHED
from ztrace_viewer.queries.rows import name_columns, read, read_pairs
from ztrace_viewer.queries.selection import Selection, match_names
from ztrace_viewer.queries.stores.answers import ExceptionRow, ExceptionText, Link, Method, RaisedRow
from ztrace_viewer.trees.columns import Call, Process
from ztrace_viewer.trees.columns import Spans as Columns
from ztrace_viewer.trees.spans import SpanRow
from ztrace_viewer.trees.states import state_of_span

#: Attributes of the process; of ztrace's own processes, the version is known.
_RESOURCE = (
    "coalesce(resource, CASE WHEN instances.version <> ''"
    " THEN json_object('service.version', instances.version) END)"
)
ENDED = f"""
SELECT {name_columns(SpanRow, service="methods.service", resource=_RESOURCE, unfinished="NULL")}
FROM all_spans AS spans JOIN methods ON methods.id = method JOIN instances ON instances.id = instance
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


_PLACED = f"SELECT {name_columns(_Placed)} FROM all_spans WHERE trace_id = ? ORDER BY id"


class _Instance(NamedTuple):
    """A row of ``instances``."""

    id: int
    instance_id: str
    host: str


_R = TypeVar("_R", bound=NamedTuple)


class _Report(NamedTuple):
    """The last report of a span without an end, and its publisher."""

    seen_ns: int
    state: str
    last_seen_ns: int


_OPEN_SPAN = name_columns(
    SpanRow,
    service="methods.service",
    resource=_RESOURCE,
    **dict.fromkeys(("duration_ns", *MEASURES, "details", "unfinished"), "NULL"),
    status=str(UNFINISHED),
)
_OPEN = f"""
SELECT {name_columns(_Report, last_seen_ns="publishers.last_seen_ns")}, {_OPEN_SPAN}
FROM unfinished_spans JOIN methods ON methods.id = method
    JOIN instances ON instances.id = unfinished_spans.instance
    JOIN publishers ON publishers.instance = unfinished_spans.instance
"""
#: The collector deletes a row once its span is stored; a copy of the file may still have both. No trace with
#: such a row is sealed.
_OPEN_OF_TRACE = (
    "trace_id = ? AND NOT EXISTS (SELECT 1 FROM spans"
    " JOIN instances AS sources ON sources.id = spans.instance"
    " WHERE spans.trace_id = unfinished_spans.trace_id AND spans.span_id = unfinished_spans.span_id"
    " AND sources.service = instances.service)"
)
#: Open roots; in a trace without a root and without an ended span, the earliest span takes its place.
_OPEN_ROOTS = (
    "parent_id IS NULL OR NOT EXISTS (SELECT 1 FROM traces WHERE traces.trace_id = unfinished_spans.trace_id)"
)
_LINKS = f"SELECT {name_columns(Link, key='id')} FROM all_spans WHERE trace_id = ? ORDER BY id"
#: Columns of exceptions that their groups have too.
_SHARED = ("origin_span_id", "type", "message", "frames")


def _select_exceptions(row: type[ExceptionRow] | type[RaisedRow], condition: str) -> str:
    sources = {name: f"exceptions.{name}" for name in _SHARED if name in row._fields}
    return (
        f"SELECT {name_columns(row, **sources)} FROM exceptions"
        " LEFT JOIN exception_groups ON exception_groups.id = exception_group"
        f" WHERE exceptions.trace_id = ?{condition} ORDER BY exceptions.id"
    )


_EXCEPTIONS = _select_exceptions(ExceptionRow, "")
_RAISED = _select_exceptions(RaisedRow, " AND exceptions.type != ''")


class Spans:
    """Answers about the spans of traces."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def spans(self, trace_id: bytes) -> Iterator[SpanRow]:
        """Yield a trace's ended spans in the order of storing."""
        return read(self.db, SpanRow, f"{ENDED} WHERE trace_id = ? ORDER BY spans.id", (trace_id,))

    def columns(self, trace_id: bytes) -> Columns:
        """Return the ended spans of a trace in columns, in the order of storing."""
        cursor = self.db.execute(_PLACED, (trace_id,))
        columns = [*zip(*cursor, strict=True)] or [()] * len(_Placed._fields)
        span_ids, parent_ids, methods, instances, starts_ns, durations_ns, selfs_ns, lanes, statuses = columns
        calls = {
            row.id: Call(row.service, row.name, row.kind)
            for row in self._read_keys(Method, "methods", methods)
        }
        processes = {
            row.id: Process(row.instance_id, row.host)
            for row in self._read_keys(_Instance, "instances", instances)
        }
        return Columns(
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

    def _read_keys(self, row: type[_R], table: str, keys: Iterable[int]) -> Iterator[_R]:
        """Yield the rows of a table with some keys."""
        among = ",".join(map(str, set(keys)))
        return read(self.db, row, f"SELECT {name_columns(row)} FROM {table} WHERE id IN ({among})")

    def links(self, trace_id: bytes) -> Iterator[Link]:
        """Return the links of a trace's ended spans, in the order of storing."""
        return read(self.db, Link, _LINKS, (trace_id,))

    def linked_spans(self, trace_id: bytes, links: Collection[Link]) -> dict[bytes, SpanRow]:
        """Return the ended spans of some links of a trace, by their ids."""
        query = f"{ENDED} WHERE spans.id = ? AND trace_id = ?"
        return {
            link.span_id: row for link in links for row in read(self.db, SpanRow, query, (link.key, trace_id))
        }

    def open_spans(self, trace_ids: Collection[bytes], now_ns: int) -> list[SpanRow]:
        """Return the spans of traces that have not ended, in the order of their first report."""
        return [
            span for trace_id in trace_ids for span in self._read_open(now_ns, _OPEN_OF_TRACE, (trace_id,))
        ]

    def open_roots(self, now_ns: int) -> Iterator[SpanRow]:
        """Return the open roots, and all open spans of traces of which no span has ended."""
        return self._read_open(now_ns, _OPEN_ROOTS)

    def open_calls(self, selection: Selection, now_ns: int) -> Iterator[SpanRow]:
        """Return the open spans that began in the selection's time and have its names."""
        named, names = match_names(selection, "methods.service", "methods.name")
        until_ns = INT64_MAX if selection.until_ns is None else selection.until_ns
        condition = " AND ".join(["start_ns >= ?", "start_ns < ?", *named])
        return self._read_open(now_ns, condition, (selection.since_ns or 0, until_ns, *names))

    def _read_open(self, now_ns: int, condition: str, values: Sequence[object] = ()) -> Iterator[SpanRow]:
        """Yield the spans without an end that satisfy a condition on the columns of ``unfinished_spans``."""
        query = f"{_OPEN} WHERE {condition} ORDER BY unfinished_spans.id"
        for report, span in read_pairs(self.db, _Report, SpanRow, query, values):
            abandoned = span.read_attributes().get(ABANDONED) is True
            state = state_of_span(report.state, report.last_seen_ns, report.seen_ns, abandoned, now_ns)
            yield span._replace(unfinished=state)

    def exceptions(self, trace_id: bytes) -> Iterator[ExceptionRow]:
        """Return a trace's exceptions in the order of storing."""
        return read(self.db, ExceptionRow, _EXCEPTIONS, (trace_id,))

    def raised(self, trace_id: bytes) -> Iterator[RaisedRow]:
        """Return the same by their text alone, without spans that merely failed."""
        return read(self.db, RaisedRow, _RAISED, (trace_id,))

    def exception_texts(self, trace_ids: Collection[bytes]) -> list[ExceptionText]:
        """Return type and message of the exceptions of traces."""
        query = f"SELECT {name_columns(ExceptionText)} FROM exceptions WHERE trace_id = ?"
        return [row for trace_id in trace_ids for row in read(self.db, ExceptionText, query, (trace_id,))]
