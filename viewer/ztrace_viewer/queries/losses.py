"""What was lost, and the facts that tell what a missing span has to do with it.

One idea: losses are few, as a flood of them is one row, so they are read whole; the facts are read for a tree
with orphans alone.
"""

import sqlite3
from collections.abc import Iterator, Sequence

from ztrace_collector.layout import LOSS_COLUMNS
from ztrace_viewer.documents import Loss
from ztrace_viewer.trees.missing import LATE_NS, Facts, Orphan, Process
from ztrace_viewer.trees.states import state_of_publisher

#: What is stored of a publisher's spans, lost, or elsewhere; the rest of what it created is on its way.
ACCOUNTED = " + ".join(["spans_stored", "spans_elsewhere", *LOSS_COLUMNS.values()])

_LOSSES = (
    "SELECT instance_id, service, host, pid, reason, span_count, first_ns, last_ns"
    " FROM losses JOIN instances ON instances.id = instance"
)


def read_losses(db: sqlite3.Connection) -> list[Loss]:
    """Return every loss, the latest first."""
    return [loss for _, loss in _read(db, f"{_LOSSES} ORDER BY last_ns DESC, losses.id DESC")]


def read_facts(db: sqlite3.Connection, trace_id: bytes, orphans: Sequence[Orphan], now_ns: int) -> Facts:
    """Return what `missing.explain_orphan` needs to know for the orphans of one trace; at least one."""
    begin_ns = min(orphan.start_ns for orphan in orphans) - LATE_NS
    end_ns = max(orphan.end_ns for orphan in orphans) + LATE_NS
    losses: dict[str, list[Loss]] = {}
    for instance_id, loss in _read(db, f"{_LOSSES} WHERE last_ns >= ? AND first_ns <= ?", (begin_ns, end_ns)):
        losses.setdefault(instance_id, []).append(loss)
    return Facts(
        now_ns=now_ns,
        refused=dict(db.execute("SELECT span_id, reason FROM refused_spans WHERE trace_id = ?", (trace_id,))),
        processes={
            instance_id: Process(state_of_publisher(state, last_seen_ns, now_ns), last_seen_ns, waiting)
            for instance_id, state, last_seen_ns, waiting in db.execute(
                f"SELECT instance_id, state, last_seen_ns, max(0, spans_created - ({ACCOUNTED}))"
                " FROM publishers JOIN instances ON instances.id = instance"
            )
        },
        losses=losses,
    )


def _read(db: sqlite3.Connection, query: str, values: Sequence[int] = ()) -> Iterator[tuple[str, Loss]]:
    for instance_id, service, host, pid, reason, span_count, first_ns, last_ns in db.execute(query, values):
        yield (
            instance_id,
            {
                "service": service,
                "host": host,
                "pid": pid,
                "reason": reason,
                "span_count": span_count,
                "first_ns": first_ns,
                "last_ns": last_ns,
            },
        )
