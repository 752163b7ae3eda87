"""Deletion of old sampled code, one piece to a transaction.

One idea: rows of stacks and frames have the hour in which they were last used, and a stack is never used
without its callers. So those that no time refers to any more are deleted by their hour alone.
"""

from collections.abc import Iterator

from ztrace_collector.layout import HOUR_NS, MINUTE_NS
from ztrace_collector.storing.store import Store

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
