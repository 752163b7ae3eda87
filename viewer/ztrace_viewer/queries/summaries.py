"""One trace in a list: what its row says, and what its spans that have not ended add to that.

One idea: ``traces`` knows of spans that have ended. The few that have not are laid over its row when it is
shown, by the same rules by which `ztrace_viewer.trees.tree` makes the whole tree of both.
"""

import sqlite3
import time
from typing import NamedTuple

from ztrace.records import UNFINISHED
from ztrace_viewer.documents import TraceSummary
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.unfinished import OpenSpan, find_root, read_open_spans_of

#: What a trace's state is when its root has ended.
FINISHED = "finished"


class TraceRow(NamedTuple):
    """A row of ``traces`` with its root's method; `SUMMARY_COLUMNS` in their order."""

    id: int
    trace_id: bytes
    root_span_id: bytes | None
    service: str
    name: str
    start_ns: int
    end_ns: int
    duration_ns: int
    span_count: int
    error_count: int
    services: str


SUMMARY_COLUMNS = (
    "traces.id, trace_id, root_span_id, service, name, start_ns, end_ns, duration_ns, span_count,"
    " error_count, services FROM traces JOIN methods ON methods.id = root_method"
)


def read_row(db: sqlite3.Connection, trace_id: bytes) -> TraceRow | None:
    """Return a trace's row, None if no span of it has ended."""
    row = db.execute(f"SELECT {SUMMARY_COLUMNS} WHERE trace_id = ?", (trace_id,)).fetchone()
    return None if row is None else TraceRow(*row)


def is_before(db: sqlite3.Connection, root: OpenSpan, row: TraceRow) -> bool:
    """Tell whether an open root is its trace's root, and not the finished one that there may be, too."""
    if row.root_span_id is None:
        return True
    (start_ns,) = db.execute(
        "SELECT min(start_ns) FROM spans WHERE trace_id = ? AND span_id = ? AND parent_id IS NULL",
        (row.trace_id, row.root_span_id),
    ).fetchone()
    return (root.start_ns, root.span_id) < (start_ns, row.root_span_id)


def is_complete(db: sqlite3.Connection, trace_id: bytes) -> bool:
    """Tell whether a trace's tree is whole: a root, every parent stored, every span ended.

    The same that `build_tree` finds, without reading the spans into memory; only circles, which no working
    sender makes, are left to that.
    """
    if read_open_spans_of(db, trace_id, 0):
        return False
    row = db.execute(
        "SELECT count(*), count(DISTINCT span_id), sum(parent_id IS NULL), sum(status = ?), sum("
        " parent_id IS NOT NULL AND parent_id NOT IN (SELECT span_id FROM spans WHERE trace_id = ?))"
        " FROM spans WHERE trace_id = ?",
        (UNFINISHED, trace_id, trace_id),
    ).fetchone()
    spans, ids, roots, unfinished, orphans = row
    return bool(spans and spans == ids and roots and not unfinished and not orphans)


def summarise(db: sqlite3.Connection, row: TraceRow) -> TraceSummary:
    """Return the summary of a trace whose root has ended."""
    return _summarise(db, row.trace_id, row, time.time_ns())


def read_summary(db: sqlite3.Connection, trace_id: bytes, now_ns: int) -> TraceSummary:
    """Return the summary of a trace, of which a span may not have ended."""
    return _summarise(db, trace_id, read_row(db, trace_id), now_ns)


def _summarise(db: sqlite3.Connection, trace_id: bytes, row: TraceRow | None, now_ns: int) -> TraceSummary:
    opened = read_open_spans_of(db, trace_id, now_ns)
    if row is None:
        return _summarise_open(opened, now_ns)
    named = read_json(row.services)
    summary: TraceSummary = {
        "trace_id": trace_id.hex(),
        "service": row.service,
        "name": row.name,
        "start_ns": row.start_ns,
        "duration_ns": row.duration_ns,
        "running_ns": None,
        "state": FINISHED,
        "span_count": row.span_count,
        "error_count": row.error_count,
        "services": [str(each) for each in named] if isinstance(named, list) else [],
        "complete": not opened and is_complete(db, trace_id),
    }
    if not opened:
        return summary
    of_open = _summarise_open(opened, now_ns)
    summary["span_count"] += of_open["span_count"]
    summary["services"] = sorted({*summary["services"], *of_open["services"]})
    summary["start_ns"] = min(row.start_ns, of_open["start_ns"])
    root = find_root(opened)
    if root.parent_id is None and is_before(db, root, row):
        for field in ("service", "name", "duration_ns", "running_ns", "state"):
            summary[field] = of_open[field]
    elif row.root_span_id is None:
        summary["duration_ns"] = row.end_ns - summary["start_ns"]
    return summary


def _summarise_open(opened: list[OpenSpan], now_ns: int) -> TraceSummary:
    """Return the summary of a trace of which no span has ended."""
    root = find_root(opened)
    return {
        "trace_id": root.trace_id.hex(),
        "service": root.service,
        "name": root.name,
        "start_ns": min(span.start_ns for span in opened),
        "duration_ns": None,
        "running_ns": root.running_ns(now_ns),
        "state": root.unfinished["state"],
        "span_count": len(opened),
        "error_count": 0,
        "services": sorted({span.service for span in opened}),
        "complete": False,
    }
