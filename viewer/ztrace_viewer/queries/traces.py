"""The slowest call trees, and one tree in full.

One idea: ``traces`` has one row per trace, with an index by hour and duration. Hours are read in the order of
their slowest trace, and an hour is skipped if that trace cannot be among the result. Traces with an open root
are few, and compared one by one.
"""

import heapq
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from ztrace.errors import ZtraceError
from ztrace.records import INT64_MAX
from ztrace_collector.layout import HOUR_NS
from ztrace_viewer.documents.traces import SlowDocument
from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.queries.clocks import read_offsets
from ztrace_viewer.queries.database import release
from ztrace_viewer.queries.exceptions import Raised, read_exceptions, read_raised
from ztrace_viewer.queries.losses import read_facts
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.queries.selection import EVERYTHING, Selection, find_methods
from ztrace_viewer.queries.spans import (
    find_root,
    read_columns,
    read_open_spans,
    read_open_spans_of,
    read_spans,
)
from ztrace_viewer.queries.summaries import TraceRow, is_before, read_row, read_summary
from ztrace_viewer.trees.arrangement import Arrangement, arrange, find_orphans
from ztrace_viewer.trees.clocks import NO_OFFSETS, Offset
from ztrace_viewer.trees.columns import Spans
from ztrace_viewer.trees.missing import Facts
from ztrace_viewer.trees.spans import SpanRow
from ztrace_viewer.trees.tree import build_tree

#: Spans of a tree in columns: a quarter of a gigabyte of memory, and more than a person looks through.
MAX_SPANS = 300_000
#: Condition on traces with a failed span, which have an index of their own.
_FAILED = "error_count > 0"
#: Hours that have traces, each with the duration of its slowest trace, found by look-ups in the index.
_HOURS = """
WITH RECURSIVE hours (hour) AS (
    SELECT max(hour) FROM traces WHERE hour <= :last{condition}
    UNION ALL
    SELECT (SELECT max(hour) FROM traces WHERE hour < hours.hour AND hour >= :first{condition})
    FROM hours WHERE hours.hour IS NOT NULL
)
SELECT hour, (SELECT max(duration_ns) FROM traces WHERE traces.hour = hours.hour{condition}) AS slowest
FROM hours WHERE hour >= :first ORDER BY slowest DESC
"""


class _Hour(NamedTuple):
    hour: int
    slowest: int


class _Found(NamedTuple):
    """Row id of a trace, ordered by duration."""

    duration_ns: int
    id: int


def list_slowest(
    db: sqlite3.Connection,
    selection: Selection = EVERYTHING,
    limit: int = 20,
    now_ns: int | None = None,
    *,
    errors: bool = False,
) -> SlowDocument:
    """Return the slowest call trees that began in the selection's time, the slowest first.

    Service and method of the selection are the root's. An open root counts with its time so far. With
    ``errors``, a span of the tree has failed.
    """
    methods = find_methods(db, selection)
    if methods == []:
        return {"traces": []}
    now_ns = time.time_ns() if now_ns is None else now_ns
    opened = _read_open_roots(db, now_ns)
    hidden = {row.id for _, row in opened if row is not None}
    found = [
        (root.running_ns(now_ns), root.trace_id)
        for root, row in opened
        if _is_selected(root, row, selection) and (not errors or (row is not None and row.error_count))
    ] + _list_finished(db, selection, methods, limit, hidden, errors)
    slowest = heapq.nlargest(limit, found)
    return {"traces": [read_summary(db, trace_id, now_ns) for _, trace_id in slowest]}


def _read_open_roots(db: sqlite3.Connection, now_ns: int) -> list[tuple[SpanRow, TraceRow | None]]:
    """Return the open roots, each with its trace's row, None if no span of the trace has ended.

    In a trace without a root and without an ended span, the earliest span takes the place of the root.
    """
    condition = (
        "parent_id IS NULL OR NOT EXISTS"
        " (SELECT 1 FROM traces WHERE traces.trace_id = unfinished_spans.trace_id)"
    )
    by_trace: dict[bytes, list[SpanRow]] = {}
    for span in read_open_spans(db, now_ns, condition):
        by_trace.setdefault(span.trace_id, []).append(span)
    opened = []
    for trace_id, spans in by_trace.items():
        root, row = find_root(spans), read_row(db, trace_id)
        if row is None or is_before(db, root, row):
            opened.append((root, row))
    return opened


def _is_selected(root: SpanRow, row: TraceRow | None, selection: Selection) -> bool:
    start_ns = root.start_ns
    return (
        selection.service in (None, root.service)
        and selection.method in (None, root.name)
        and (selection.since_ns is None or start_ns >= selection.since_ns)
        and (selection.until_ns is None or start_ns < selection.until_ns)
    )


def _list_finished(
    db: sqlite3.Connection,
    selection: Selection,
    methods: list[int] | None,
    limit: int,
    hidden: Collection[int],
    errors: bool,
) -> list[tuple[int, bytes]]:
    """Return (duration, trace id) of the slowest traces, in any order, without the hidden row ids."""
    first = 0 if selection.since_ns is None else selection.since_ns // HOUR_NS
    last = INT64_MAX // HOUR_NS if selection.until_ns is None else (selection.until_ns - 1) // HOUR_NS
    slowest: list[_Found] = []
    hours = _HOURS.format(condition=f" AND {_FAILED}" if errors else "")
    for hour in list(read(db, _Hour, hours, {"first": first, "last": last})):
        if len(slowest) == limit and hour.slowest <= slowest[0].duration_ns:
            break
        for found in _slowest_of(db, hour.hour, selection, methods, limit + len(hidden), errors):
            if found.id in hidden:
                continue
            if len(slowest) < limit:
                heapq.heappush(slowest, found)
            elif found <= heapq.heappushpop(slowest, found):
                break
    return [
        (found.duration_ns, *db.execute("SELECT trace_id FROM traces WHERE id = ?", (found.id,)).fetchone())
        for found in slowest
    ]


def read_tree(
    db: sqlite3.Connection, trace_id: bytes, now_ns: int | None = None, *, measured: bool = True
) -> TreeDocument:
    """Return one call tree.

    Args:
        db: from `open_database`.
        trace_id: 16 bytes; see `ztrace_viewer.queries.identifiers.find_trace`.
        now_ns: present time, by which a process is silent or not; None for now.
        measured: apply the measured offsets of the clocks.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    opened = read_open_spans_of(db, trace_id, now_ns)
    rows = [*read_spans(db, "trace_id = ?", (trace_id,)), *opened]
    beside = _read_beside(db, trace_id, Spans.of(rows), opened, now_ns, measured=measured)
    exceptions = read_exceptions(db, trace_id)
    release(db)  # Building and drawing a large tree takes longer than reading it.
    return build_tree(trace_id, rows, exceptions, *beside)


def read_arrangement(
    db: sqlite3.Connection, trace_id: bytes, now_ns: int, *, measured: bool = True
) -> tuple[Arrangement, dict[bytes, Raised]]:
    """Return one call tree without what only one span in full shows, and what ended its spans.

    Args:
        db: from `open_database`.
        trace_id: 16 bytes.
        now_ns: as in `read_tree`.
        measured: as in `read_tree`.

    Raises:
        ZtraceError: the tree has more than `MAX_SPANS` spans.
    """
    row = read_row(db, trace_id)
    if row is not None and row.span_count > MAX_SPANS:
        raise ZtraceError(
            f"this tree has {row.span_count:,} spans, and {MAX_SPANS:,} are shown at most",
            hint=f"'ztrace export {trace_id.hex()}' writes all of it",
        )
    opened = read_open_spans_of(db, trace_id, now_ns)
    spans = read_columns(db, trace_id).followed_by(Spans.of(opened))
    beside = _read_beside(db, trace_id, spans, opened, now_ns, measured=measured)
    raised = read_raised(db, trace_id)
    release(db)
    return arrange(spans, *beside), raised


class _Beside(NamedTuple):
    """What a tree is built from beside its spans."""

    facts: Facts
    root_service: str | None
    offsets: Mapping[str, Offset]


def _read_beside(
    db: sqlite3.Connection,
    trace_id: bytes,
    spans: Spans,
    opened: list[SpanRow],
    now_ns: int,
    *,
    measured: bool,
) -> _Beside:
    orphans = find_orphans(spans)
    facts = read_facts(db, trace_id, orphans, now_ns) if orphans else Facts(now_ns)
    root_service = _find_root_service(read_row(db, trace_id), opened)
    return _Beside(facts, root_service, read_offsets(db, spans) if measured else NO_OFFSETS)


def _find_root_service(row: TraceRow | None, opened: list[SpanRow]) -> str | None:
    """Return the service whose root is the trace's, None if no service has one."""
    if row is not None and row.root_span_id is not None:
        return row.service
    root = find_root(opened) if opened else None
    return root.service if root is not None and root.parent_id is None else None


def _slowest_of(
    db: sqlite3.Connection,
    hour: int,
    selection: Selection,
    methods: list[int] | None,
    limit: int,
    errors: bool,
) -> Iterator[_Found]:
    """Yield the slowest traces of an hour, the slowest first."""
    conditions, values = ["hour = ?"], [hour]
    if errors:
        conditions.append(_FAILED)
    if selection.since_ns is not None and hour == selection.since_ns // HOUR_NS:
        conditions.append("start_ns >= ?")
        values.append(selection.since_ns)
    if selection.until_ns is not None and hour == (selection.until_ns - 1) // HOUR_NS:
        conditions.append("start_ns < ?")
        values.append(selection.until_ns)
    if methods is not None:
        conditions.append(f"root_method IN ({','.join('?' * len(methods))})")
        values.extend(methods)
    query = (
        f"SELECT {name_columns(_Found)} FROM traces WHERE {' AND '.join(conditions)}"
        " ORDER BY duration_ns DESC, id DESC LIMIT ?"
    )
    return read(db, _Found, query, [*values, limit])
