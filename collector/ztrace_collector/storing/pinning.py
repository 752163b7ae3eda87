"""Pins of traces, which thinning then keeps, with or without a running collector.

One idea: as with resolving a group, a pin is a column of the trace's row and one short transaction. The
collector never writes the column.
"""

from pathlib import Path

from ztrace.errors import NotFoundError
from ztrace_collector.storing.existing import writing


def pin(path: Path, trace_id: bytes, *, undo: bool = False) -> None:
    """Pin a trace, or undo that.

    Raises:
        NotFoundError: no span of the trace is stored.
        DatabaseError: one of its subclasses; nothing has been changed.
    """
    with writing(path) as db:
        changed = db.execute(
            "UPDATE traces SET pinned = ? WHERE trace_id = ?", (int(not undo), trace_id)
        ).rowcount
        if not changed:
            raise NotFoundError(f"no span of trace {trace_id.hex()} has ended", hint="pin it once one has")
