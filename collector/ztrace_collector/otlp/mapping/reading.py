"""Rows to `StoredSpan`s: all there is to say of a span, for whatever leaves the store.

One idea: a span leaves in the order in which it was stored, and its ``id`` is the place to go on from.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ztrace.records import MEASURES, UNFINISHED

#: Traces asked for by one statement: SQLite takes 32,766 parameters, and reads the rows of a chunk at once.
TRACES_AT_ONCE = 500


class StoredException(NamedTuple):
    """An exception of a span, as it is stored.

    Attributes:
        how: as in `ztrace.records.ExceptionRecord`.
        origin_trace_id: trace of the span in which it was first raised.
        origin_span_id: that span.
        frames: JSON, as the table ``exceptions`` has it; causes, notes and members likewise.
        group: the fingerprint of its group; None while its origin is not stored.
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
    """A span as it is stored.

    Attributes:
        id: the row's, in the order of storing.
        service: under which it is counted: ``(other)`` if there were too many.
        name: likewise.
        kind: its name, as in `ztrace.records.KIND_NUMBERS`.
        instance: key of ``instances``.
        duration_ns: of one that has not ended, how long it had been open when its process last told of it.
        status: OK, ERROR or UNFINISHED.
        attributes: JSON, None if there are none; links and details likewise.
        measures: values of `ztrace.records.MEASURES`, in that order.
        exception: what ended it.
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


#: Columns of a `StoredSpan`; those of its measures follow.
_COLUMNS = StoredSpan._fields[: StoredSpan._fields.index("measures")]


def _select(table: str, **sources: str) -> str:
    """Return the SELECT of stored spans from a table; sources are SQL expressions of columns."""
    sources = {"service": "methods.service", "name": "methods.name", "kind": "methods.kind"} | sources
    columns = ", ".join(sources.get(name) or f"{table}.{name}" for name in (*_COLUMNS, *MEASURES))
    return f"SELECT {columns} FROM {table} JOIN methods ON methods.id = {table}.method"


_SPANS = _select("spans")
_UNFINISHED = _select(
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


def read_after(db: sqlite3.Connection, after_id: int, limit: int) -> list[StoredSpan]:
    """Return finished spans that were stored after one, at most so many, in the order of storing.

    Args:
        db: any connection to the file.
        after_id: the last span's ``id``; 0 for the beginning.
        limit: at most.
    """
    rows = db.execute(f"{_SPANS} WHERE spans.id > ? ORDER BY spans.id LIMIT ?", (after_id, limit)).fetchall()
    if not rows:
        return []
    exceptions = db.execute(
        f"{_EXCEPTIONS} JOIN spans ON spans.trace_id = exceptions.trace_id"
        " AND spans.span_id = exceptions.span_id WHERE spans.id BETWEEN ? AND ? ORDER BY exceptions.id",
        (rows[0][0], rows[-1][0]),
    )
    return _with_exceptions(rows, exceptions)


def read_traces(db: sqlite3.Connection, trace_ids: Sequence[bytes]) -> list[StoredSpan]:
    """Return all finished spans of some traces, each trace's in the order of storing."""
    spans: list[StoredSpan] = []
    for at in range(0, len(trace_ids), TRACES_AT_ONCE):
        chunk = trace_ids[at : at + TRACES_AT_ONCE]
        marks = ", ".join("?" * len(chunk))
        rows = db.execute(f"{_SPANS} WHERE spans.trace_id IN ({marks}) ORDER BY spans.id", chunk).fetchall()
        exceptions = db.execute(
            f"{_EXCEPTIONS} WHERE exceptions.trace_id IN ({marks}) ORDER BY exceptions.id", chunk
        )
        spans += _with_exceptions(rows, exceptions)
    return spans


def read_trace_after(db: sqlite3.Connection, trace_id: bytes, after_id: int, limit: int) -> list[StoredSpan]:
    """Return some finished spans of one trace, as `read_after` does of all: a trace may be very large."""
    rows = db.execute(
        f"{_SPANS} WHERE spans.trace_id = ? AND spans.id > ? ORDER BY spans.id LIMIT ?",
        (trace_id, after_id, limit),
    ).fetchall()
    if not rows:
        return []
    exceptions = db.execute(
        f"{_EXCEPTIONS} WHERE exceptions.trace_id = ? AND exceptions.span_id IN"
        " (SELECT span_id FROM spans WHERE trace_id = ? AND id BETWEEN ? AND ?) ORDER BY exceptions.id",
        (trace_id, trace_id, rows[0][0], rows[-1][0]),
    )
    return _with_exceptions(rows, exceptions)


def read_unfinished(db: sqlite3.Connection, trace_ids: Sequence[bytes]) -> list[StoredSpan]:
    """Return the spans of some traces that have not ended, as far as their processes told of them."""
    spans: list[StoredSpan] = []
    for at in range(0, len(trace_ids), TRACES_AT_ONCE):
        chunk = trace_ids[at : at + TRACES_AT_ONCE]
        marks = ", ".join("?" * len(chunk))
        condition = f"WHERE unfinished_spans.trace_id IN ({marks}) ORDER BY unfinished_spans.id"
        spans += _with_exceptions(db.execute(f"{_UNFINISHED} {condition}", chunk).fetchall(), ())
    return spans


def _with_exceptions(
    rows: Sequence[tuple[Any, ...]], exceptions: Iterable[tuple[Any, ...]]
) -> list[StoredSpan]:
    """Return rows as spans, each with the first exception that is stored of it."""
    found: dict[tuple[Any, ...], StoredException] = {}
    for trace_id, span_id, *fields in exceptions:
        found.setdefault((trace_id, span_id), StoredException._make(fields))
    width = len(_COLUMNS)
    spans = [StoredSpan._make((*row[:width], row[width:], None)) for row in rows]
    if not found:
        return spans
    return [span._replace(exception=found.get((span.trace_id, span.span_id))) for span in spans]
