"""Deletion of traces and of their spans, sealed or not, within a transaction of the caller's.

One idea: what is deleted stays a part of what was stored, in the accounts of publishers as in the totals.
"""

import sqlite3
from collections.abc import Mapping, Sequence

from ztrace_collector.tables.sealed import delete_sealed

#: Tables whose rows belong to a trace and are deleted with it, besides ``spans``.
_OF_TRACES = (
    "exceptions",
    "uncaught_exceptions",
    "exception_samples",
    "unfinished_spans",
    "sent_unfinished_spans",
    "refused_spans",
    "adopted_spans",
    "span_stacks",
    "traces",
)


def delete_whole_traces(
    db: sqlite3.Connection, numbers: Sequence[int], trace_ids: Sequence[bytes], counted_as: str
) -> int:
    """Delete traces with all their rows, in a transaction of the caller's.

    Args:
        db: the database.
        numbers: rows of ``traces``.
        trace_ids: their traces.
        counted_as: name in ``totals`` that counts their spans from now on.

    Returns:
        The number of their spans.
    """
    marks = ",".join("?" * len(trace_ids))
    deleted = delete_spans(db, f"trace_id IN ({marks})", trace_ids, counted_as)
    sealed, instances = delete_sealed(db, numbers)
    _count_deleted(db, sealed, instances, counted_as)
    deleted += sealed
    # A span that is still running is reported again, and gets a new row.
    for table in _OF_TRACES:
        db.execute(f"DELETE FROM {table} WHERE trace_id IN ({marks})", trace_ids)
    db.execute(f"DELETE FROM settled WHERE trace IN ({','.join(map(str, numbers))})")
    db.execute("UPDATE totals SET value = value - ? WHERE name = 'traces'", (len(trace_ids),))
    return deleted


def delete_spans(db: sqlite3.Connection, condition: str, trace_ids: Sequence[bytes], counted_as: str) -> int:
    """Delete spans, count them among the totals, and return their number."""
    counts = db.execute(
        f"SELECT instance, count(*) FROM spans WHERE {condition} GROUP BY instance", trace_ids
    ).fetchall()
    deleted = db.execute(f"DELETE FROM spans WHERE {condition}", trace_ids).rowcount
    _count_deleted(db, deleted, dict(counts), counted_as)
    return deleted


def _count_deleted(
    db: sqlite3.Connection, deleted: int, instances: Mapping[int, int], counted_as: str
) -> None:
    """Count deleted spans of some instances among the totals."""
    db.executemany(
        "UPDATE instances SET spans_expired = spans_expired + ? WHERE id = ?",
        [(count, instance) for instance, count in instances.items()],
    )
    db.executemany(
        "UPDATE totals SET value = value + ? WHERE name = ?",
        [(-deleted, "spans"), (deleted, counted_as)],
    )
