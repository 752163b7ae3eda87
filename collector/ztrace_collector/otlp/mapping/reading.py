"""Rows to `StoredSpan`s, for all uses outside the store.

One idea: spans are read in the order of storing, and the ``id`` of the last one is the position to continue
from.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ztrace.records import INT64_MAX, MEASURES, UNFINISHED
from ztrace_collector.sealing.reading import find_sealed, read_ids

#: Traces in one statement: SQLite accepts 32,766 parameters, and the rows of a chunk are in memory together.
TRACES_AT_ONCE = 500


class StoredException(NamedTuple):
    """Exception of a span, as stored.

    Attributes:
        how: as in `ztrace.records.ExceptionRecord`.
        origin_trace_id: trace of the span in which it was first raised.
        origin_span_id: id of that span.
        frames: JSON, as in the table ``exceptions``, and likewise causes, notes and members.
        group: fingerprint of its group; None while its origin is not stored.
    """

    how: str
    type: str
    message: str
    origin_trace_id: bytes
    origin_span_id: bytes
    frames: str
    causes: str
    notes: str
    members: str
    group: str | None


class StoredSpan(NamedTuple):
    """Span as stored.

    Attributes:
        id: row id, in the order of storing.
        service: service it is counted under: ``(other)`` beyond the limit.
        name: name it is counted under, likewise.
        kind: name of the kind, as in `ztrace.records.KIND_NUMBERS`.
        instance: key of ``instances``.
        duration_ns: for an unfinished span, its age at the last report.
        status: OK, ERROR or UNFINISHED.
        attributes: JSON, None if there are none, and likewise links and details.
        measures: values of `ztrace.records.MEASURES`, in that order.
        exception: the exception that ended it.
        threshold: threshold by which its trace was kept when others were thinned; None for the whole.
    """

    id: int
    trace_id: bytes
    span_id: bytes
    parent_id: bytes | None
    service: str
    name: str
    kind: str
    instance: int
    start_ns: int
    duration_ns: int
    status: int
    attributes: str | None
    links: str | None
    details: str | None
    measures: tuple[int | None, ...]
    exception: StoredException | None
    threshold: int | None = None


class StoredProcess(NamedTuple):
    """Process as stored; ``resource`` is JSON, None for one of ztrace's own."""

    instance_id: str
    service: str
    host: str
    pid: int
    started_ns: int
    version: str
    resource: str | None


#: Columns of a `StoredSpan`, followed by those of its measures.
_COLUMNS = StoredSpan._fields[: StoredSpan._fields.index("measures")]


def _select(source: str, table: str, **sources: str) -> str:
    """Return the SELECT of stored spans from a table.

    Args:
        source: the table or view.
        table: the name by which the rest of the query knows it.
        sources: SQL expressions of fields that are not columns of the table.
    """
    sources = {"service": "methods.service", "name": "methods.name", "kind": "methods.kind"} | sources
    columns = ", ".join(sources.get(name) or f"{table}.{name}" for name in (*_COLUMNS, *MEASURES))
    return f"SELECT {columns} FROM {source} AS {table} JOIN methods ON methods.id = {table}.method"


_SPANS = _select("all_spans", "spans")
_UNFINISHED = _select(
    "unfinished_spans",
    "unfinished_spans",
    duration_ns="max(0, seen_ns - start_ns)",
    status=str(UNFINISHED),
    **dict.fromkeys(MEASURES, "NULL"),
)
_EXCEPTION_SOURCES = {"group": "fingerprint"}
_EXCEPTIONS = f"""
SELECT exceptions.trace_id, exceptions.span_id,
    {", ".join(_EXCEPTION_SOURCES.get(name) or f"exceptions.{name}" for name in StoredException._fields)}
FROM exceptions LEFT JOIN exception_groups ON exception_groups.id = exception_group
"""
_PROCESS = ", ".join(StoredProcess._fields)
#: Rows of exceptions; a span that failed without one has a row without a type.
_RAISED = "exceptions.type <> ''"


def read_process(db: sqlite3.Connection, instance: int) -> StoredProcess | None:
    """Return a process by its key, None if another program has deleted its row."""
    row = db.execute(f"SELECT {_PROCESS} FROM instances WHERE id = ?", (instance,)).fetchone()
    return None if row is None else StoredProcess._make(row)


def read_after(db: sqlite3.Connection, after_id: int, limit: int) -> list[StoredSpan]:
    """Return ended spans that were stored after a position, in the order of storing.

    Args:
        db: a connection to the file, with the views of `ztrace_collector.sealing.reading`.
        after_id: the ``id`` of the last span seen; 0 for the beginning.
        limit: maximum of spans.
    """
    pieces = read_ids(db, lambda source: _select(source, "spans"), after_id, INT64_MAX, limit)
    rows = [row for piece in pieces for row in piece]
    if not rows:
        return []
    exceptions = db.execute(
        f"{_EXCEPTIONS} JOIN spans ON spans.trace_id = exceptions.trace_id"
        " AND spans.span_id = exceptions.span_id"
        f" WHERE spans.id BETWEEN ? AND ? AND {_RAISED} ORDER BY exceptions.id",
        (rows[0][0], rows[-1][0]),
    ).fetchall()
    for trace_id in find_sealed(db, after_id, {row[1] for row in rows}):
        exceptions += db.execute(
            f"{_EXCEPTIONS} WHERE exceptions.trace_id = ? AND {_RAISED} ORDER BY exceptions.id", (trace_id,)
        )
    return _with_exceptions(rows, exceptions)


def read_traces(db: sqlite3.Connection, trace_ids: Sequence[bytes]) -> list[StoredSpan]:
    """Return all ended spans of some traces, those of each trace in the order of storing."""
    spans: list[StoredSpan] = []
    for at in range(0, len(trace_ids), TRACES_AT_ONCE):
        chunk = trace_ids[at : at + TRACES_AT_ONCE]
        marks = ", ".join("?" * len(chunk))
        rows = db.execute(f"{_SPANS} WHERE spans.trace_id IN ({marks}) ORDER BY spans.id", chunk).fetchall()
        exceptions = db.execute(
            f"{_EXCEPTIONS} WHERE exceptions.trace_id IN ({marks}) AND {_RAISED} ORDER BY exceptions.id",
            chunk,
        )
        spans += _with_thresholds(db, _with_exceptions(rows, exceptions), chunk)
    return spans


def read_trace_after(db: sqlite3.Connection, trace_id: bytes, after_id: int, limit: int) -> list[StoredSpan]:
    """Return ended spans of one trace after a position, as `read_after`; a trace may be very large."""
    rows = db.execute(
        f"{_SPANS} WHERE spans.trace_id = ? AND spans.id > ? ORDER BY spans.id LIMIT ?",
        (trace_id, after_id, limit),
    ).fetchall()
    if not rows:
        return []
    exceptions = db.execute(
        f"{_EXCEPTIONS} WHERE {_RAISED} AND exceptions.trace_id = ? AND exceptions.span_id IN"
        " (SELECT span_id FROM all_spans WHERE trace_id = ? AND id BETWEEN ? AND ?) ORDER BY exceptions.id",
        (trace_id, trace_id, rows[0][0], rows[-1][0]),
    )
    return _with_thresholds(db, _with_exceptions(rows, exceptions), [trace_id])


def read_unfinished(db: sqlite3.Connection, trace_ids: Sequence[bytes]) -> list[StoredSpan]:
    """Return the unfinished spans of some traces, as last reported."""
    spans: list[StoredSpan] = []
    for at in range(0, len(trace_ids), TRACES_AT_ONCE):
        chunk = trace_ids[at : at + TRACES_AT_ONCE]
        marks = ", ".join("?" * len(chunk))
        condition = f"WHERE unfinished_spans.trace_id IN ({marks}) ORDER BY unfinished_spans.id"
        spans += _with_exceptions(db.execute(f"{_UNFINISHED} {condition}", chunk).fetchall(), ())
    return spans


def read_unfinished_after(
    db: sqlite3.Connection, trace_id: bytes, after_id: int, limit: int
) -> list[StoredSpan]:
    """Return unfinished spans of one trace after a position, as `read_trace_after`."""
    condition = "WHERE unfinished_spans.trace_id = ? AND unfinished_spans.id > ?"
    rows = db.execute(
        f"{_UNFINISHED} {condition} ORDER BY unfinished_spans.id LIMIT ?", (trace_id, after_id, limit)
    ).fetchall()
    return _with_exceptions(rows, ())


def _with_thresholds(
    db: sqlite3.Connection, spans: list[StoredSpan], trace_ids: Sequence[bytes]
) -> list[StoredSpan]:
    """Return spans with the thresholds of their traces."""
    marks = ", ".join("?" * len(trace_ids))
    query = f"SELECT trace_id, threshold FROM traces WHERE trace_id IN ({marks}) AND threshold IS NOT NULL"
    found: dict[bytes, int] = dict(db.execute(query, trace_ids))
    return [span._replace(threshold=found.get(span.trace_id)) for span in spans] if found else spans


def _with_exceptions(
    rows: Sequence[tuple[Any, ...]], exceptions: Iterable[tuple[Any, ...]]
) -> list[StoredSpan]:
    """Return rows as spans, each with the first exception stored for it."""
    found: dict[tuple[Any, ...], StoredException] = {}
    for trace_id, span_id, *fields in exceptions:
        found.setdefault((trace_id, span_id), StoredException._make(fields))
    width = len(_COLUMNS)
    spans = [StoredSpan._make((*row[:width], row[width:], None, None)) for row in rows]
    if not found:
        return spans
    return [span._replace(exception=found.get((span.trace_id, span.span_id))) for span in spans]
