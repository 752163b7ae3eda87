"""Deletion of old sampled code, one piece to a transaction.

One idea: rows of stacks and frames have the hour in which they were last used, and a stack is never used
without its callers. So those that no time refers to any more are deleted by their hour alone.
"""

from collections.abc import Iterator

from ztrace_collector.layout import HOUR_NS, MINUTE_NS
from ztrace_collector.storing.store import Store

#: Parts of a size limit above which minutes, and hours, of a full file are deleted.
MINUTES_SHARE, HOURS_SHARE = 0.25, 0.15
#: Latest rows whose size is that of all.
SAMPLE_ROWS = 200
#: Rows deleted, or looked at, in one piece.
PIECE = 1_000

_DELETE = "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {bucket} < ? LIMIT ?)"


def delete_code(store: Store, before_ns: int) -> Iterator[None]:
    """Delete the sampled time before a point in time, and then the code that it alone referred to.

    The last row of a table stays, so that no id is given out twice.
    """
    for table, bucket, length_ns in (
        ("stack_minutes", "minute", MINUTE_NS),
        ("stack_hours", "hour", HOUR_NS),
    ):
        statement = _DELETE.format(table=table, bucket=bucket)
        deleted = PIECE
        while deleted == PIECE:
            with store.transaction() as db:
                deleted = db.execute(statement, (before_ns // length_ns, PIECE)).rowcount
            yield
    for table in ("stacks", "frames"):
        ((last,),) = store.read(f"SELECT coalesce(max(id), 0) FROM {table}")
        for first in range(0, last, PIECE):
            with store.transaction() as db:
                deleted = db.execute(
                    f"DELETE FROM {table} WHERE id > ? AND id <= ? AND id < ? AND hour < ?",
                    (first, first + PIECE, last, before_ns // HOUR_NS),
                ).rowcount
            if deleted:
                store.forget("stacks")
            yield
    with store.transaction() as db:
        db.execute("DELETE FROM profile_answers WHERE nonce NOT IN (SELECT nonce FROM profile_requests)")
    yield


def prune_code(store: Store, max_bytes: int) -> Iterator[None]:
    """Delete the oldest minutes and hours of a full file if they take too much of it, a piece per iteration.

    They belong to no trace, so deleting traces would not make room for them.
    """
    for table, bucket, share in (
        ("stack_minutes", "minute", MINUTES_SHARE),
        ("stack_hours", "hour", HOURS_SHARE),
    ):
        while _estimate_bytes(store, table) > share * max_bytes:
            with store.transaction() as db:
                db.execute(
                    f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY {bucket} LIMIT ?)",
                    (PIECE // 10,),
                )
            yield


def _estimate_bytes(store: Store, table: str) -> float:
    """Return about how many bytes a table has, without reading it."""
    ((first, last),) = store.read(f"SELECT coalesce(min(id), 0), coalesce(max(id), -1) FROM {table}")
    ((each,),) = store.read(
        f"SELECT coalesce(avg(length(sums)), 0) FROM"
        f" (SELECT sums FROM {table} ORDER BY id DESC LIMIT {SAMPLE_ROWS})"
    )
    return float((last - first + 1) * each)
