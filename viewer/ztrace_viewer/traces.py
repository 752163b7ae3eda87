"""Call trees as a list: the slowest, and one tree in full.

One idea: ``traces`` has one row per trace and is indexed by (hour, duration). The slowest of any stretch of
time are found hour by hour from the slow end, an hour being opened only if its slowest trace can still be
among those wanted.
"""

import heapq
import sqlite3
from collections.abc import Iterator

from ztrace.wire import UNFINISHED
from ztrace_collector.layout import HOUR_NS
from ztrace_viewer.documents import SlowDocument, TraceSummary, TreeDocument
from ztrace_viewer.exceptions import read_exceptions
from ztrace_viewer.json_text import read_json
from ztrace_viewer.selection import EVERYTHING, Selection, find_methods
from ztrace_viewer.tree import SpanRow, build_tree

#: Columns of a summary, in `_summary`'s order.
SUMMARY_COLUMNS = (
    "traces.trace_id, service, name, start_ns, duration_ns, span_count, error_count, services"
    " FROM traces JOIN methods ON methods.id = root_method"
)

#: Walks from hour to hour that has traces, each with the duration of its slowest, by look-ups in the index.
_HOURS = """
WITH RECURSIVE hours (hour) AS (
    SELECT max(hour) FROM traces WHERE hour <= :last
    UNION ALL
    SELECT (SELECT max(hour) FROM traces WHERE hour < hours.hour AND hour >= :first)
    FROM hours WHERE hours.hour IS NOT NULL
)
SELECT hour, (SELECT max(duration_ns) FROM traces WHERE traces.hour = hours.hour) AS slowest
FROM hours WHERE hour >= :first ORDER BY slowest DESC
"""


def list_slowest(db: sqlite3.Connection, selection: Selection = EVERYTHING, limit: int = 20) -> SlowDocument:
    """Return the slowest call trees that began in the selection's time, the slowest first.

    The selection's service and method are the root's.
    """
    methods = find_methods(db, selection)
    if methods == []:
        return {"traces": []}
    first = 0 if selection.since_ns is None else selection.since_ns // HOUR_NS
    last = (1 << 62) if selection.until_ns is None else (selection.until_ns - 1) // HOUR_NS
    slowest: list[tuple[int, int]] = []
    for hour, longest in db.execute(_HOURS, {"first": first, "last": last}).fetchall():
        if len(slowest) == limit and longest <= slowest[0][0]:
            break
        for found in _slowest_of(db, hour, selection, methods, limit):
            if len(slowest) < limit:
                heapq.heappush(slowest, found)
            elif found <= heapq.heappushpop(slowest, found):
                break
    return {"traces": [_read_summary(db, row) for _, row in sorted(slowest, reverse=True)]}


def is_complete(db: sqlite3.Connection, trace_id: bytes) -> bool:
    """Tell whether a trace's tree is whole: a root, every parent stored, every span ended.

    The same that `build_tree` finds, without reading the spans into memory; only circles, which no working
    sender makes, are left to that.
    """
    row = db.execute(
        "SELECT count(*), count(DISTINCT span_id), sum(parent_id IS NULL), sum(status = ?), sum("
        " parent_id IS NOT NULL AND parent_id NOT IN (SELECT span_id FROM spans WHERE trace_id = ?))"
        " FROM spans WHERE trace_id = ?",
        (UNFINISHED, trace_id, trace_id),
    ).fetchone()
    spans, ids, roots, unfinished, orphans = row
    return bool(spans and spans == ids and roots and not unfinished and not orphans)


def read_tree(db: sqlite3.Connection, trace_id: bytes) -> TreeDocument:
    """Return one call tree.

    Args:
        db: from `open_database`.
        trace_id: 16 bytes; see `ztrace_viewer.identifiers.find_trace`.
    """
    return build_tree(trace_id, _read_spans(db, trace_id), read_exceptions(db, trace_id))


def summarise(db: sqlite3.Connection, row: tuple[bytes, str, str, int, int, int, int, str]) -> TraceSummary:
    """Return the summary for a row of `SUMMARY_COLUMNS`."""
    trace_id, service, name, start_ns, duration_ns, span_count, error_count, services = row
    named = read_json(services)
    return {
        "trace_id": trace_id.hex(),
        "service": service,
        "name": name,
        "start_ns": start_ns,
        "duration_ns": duration_ns,
        "span_count": span_count,
        "error_count": error_count,
        "services": [str(each) for each in named] if isinstance(named, list) else [],
        "complete": is_complete(db, trace_id),
    }


def _slowest_of(
    db: sqlite3.Connection, hour: int, selection: Selection, methods: list[int] | None, limit: int
) -> list[tuple[int, int]]:
    """Return (duration, row id) of the slowest traces of an hour, the slowest first."""
    conditions, values = ["hour = ?"], [hour]
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
        f"SELECT duration_ns, id FROM traces WHERE {' AND '.join(conditions)}"
        " ORDER BY duration_ns DESC, id DESC LIMIT ?"
    )
    return db.execute(query, [*values, limit]).fetchall()


def _read_summary(db: sqlite3.Connection, row_id: int) -> TraceSummary:
    return summarise(db, db.execute(f"SELECT {SUMMARY_COLUMNS} WHERE traces.id = ?", (row_id,)).fetchone())


def _read_spans(db: sqlite3.Connection, trace_id: bytes) -> Iterator[SpanRow]:
    rows = db.execute(
        "SELECT attributes, span_id, parent_id, methods.service, name, kind, start_ns, duration_ns, self_ns,"
        " cpu_ns, status, instance_id, host, pid FROM spans JOIN methods ON methods.id = method"
        " JOIN instances ON instances.id = instance WHERE trace_id = ? ORDER BY spans.id",
        (trace_id,),
    )
    for attributes, *columns in rows:
        named = read_json(attributes)
        yield SpanRow(named if isinstance(named, dict) else {}, *columns)
