"""Call trees over time: how many began in each part of a stretch, and how many of them failed."""

import sqlite3
from typing import NamedTuple, TypedDict

from ztrace_collector.layout import HOUR_NS
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.queries.selection import Selection, find_methods

#: Parts of the stretch.
PARTS = 80
#: Shortest part: bars of trees that follow each other by less say nothing.
_LEAST_NS = 1_000_000


class HistogramDocument(TypedDict):
    """Trees by the part of the stretch in which they began; ``errors`` are those with a failed span."""

    since_ns: int
    until_ns: int
    traces: list[int]
    errors: list[int]


class _Part(NamedTuple):
    part: int
    traces: int
    errors: int


def count_trees(db: sqlite3.Connection, selection: Selection, now_ns: int) -> HistogramDocument:
    """Return the numbers of trees of a selection over time; its service and method are the root's.

    Args:
        db: from `open_database`.
        selection: without a begin or an end, the stretch is from the first tree or to now.
        now_ns: present time, Unix.
    """
    since_ns, until_ns = selection.since_ns, selection.until_ns
    if since_ns is None:
        hour = db.execute("SELECT min(hour) FROM traces").fetchone()[0]
        first = db.execute("SELECT min(start_ns) FROM traces WHERE hour = ?", (hour,)).fetchone()[0]
        since_ns = now_ns if first is None else int(first)
    if until_ns is None:
        until_ns = max(now_ns, since_ns)
    width_ns = max(_LEAST_NS, -(-(until_ns - since_ns) // PARTS))
    document: HistogramDocument = {
        "since_ns": since_ns,
        "until_ns": since_ns + PARTS * width_ns,
        "traces": [0] * PARTS,
        "errors": [0] * PARTS,
    }
    methods = find_methods(db, selection)
    conditions = ["hour BETWEEN ? AND ?", "start_ns >= ?", "start_ns < ?"]
    values = [since_ns // HOUR_NS, until_ns // HOUR_NS, since_ns, until_ns]
    if methods is not None:
        conditions.append(f"root_method IN ({','.join('?' * len(methods))})")
        values += methods
    columns = name_columns(
        _Part, part="(start_ns - ?) / ?", traces="count(*)", errors="coalesce(sum(error_count > 0), 0)"
    )
    query = f"SELECT {columns} FROM traces WHERE {' AND '.join(conditions)} GROUP BY 1"
    for row in read(db, _Part, query, [since_ns, width_ns, *values]):
        document["traces"][row.part] = row.traces
        document["errors"][row.part] = row.errors
    return document
