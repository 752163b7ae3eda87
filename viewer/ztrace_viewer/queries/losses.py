"""Losses of spans, and the facts that explain a span's missing parent.

One idea: a flood of losses is one row, so all are read at once. The facts are read for trees with orphans
only.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from ztrace_collector.layout import LOSS_COLUMNS
from ztrace_viewer.documents.trees import Loss
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.trees.missing import LATE_NS, Facts, Orphan, Process
from ztrace_viewer.trees.states import state_of_publisher

#: SQL expression of a publisher's spans that are in flight: created, and neither stored, lost nor elsewhere.
WAITING = f"max(0, spans_created - spans_stored - spans_elsewhere - {' - '.join(LOSS_COLUMNS.values())})"

#: SQL expression for a publisher that has sent nothing itself: its spans have no sequence numbers.
FOREIGN = "(next_sequence = 0 AND spans_stored > 0)"


class _Loss(NamedTuple):
    """A row of ``losses``, with its process."""

    instance_id: str
    service: str
    host: str
    pid: int
    reason: str
    span_count: int
    first_ns: int
    last_ns: int


class _Publisher(NamedTuple):
    """Columns of ``publishers`` that say whether a process may have made a missing span."""

    instance_id: str
    state: str
    last_seen_ns: int
    waiting: int
    is_foreign: bool


_LOSSES = f"SELECT {name_columns(_Loss)} FROM losses JOIN instances ON instances.id = instance"
_PUBLISHERS = (
    f"SELECT {name_columns(_Publisher, waiting=WAITING, is_foreign=FOREIGN)}"
    " FROM publishers JOIN instances ON instances.id = instance"
)


def count_losses(db: sqlite3.Connection) -> int:
    """Return the number of losses."""
    return int(db.execute("SELECT count(*) FROM losses").fetchone()[0])


def read_losses(db: sqlite3.Connection, limit: int, skip: int = 0) -> list[Loss]:
    """Return a page of the losses, the latest first."""
    rows = read(db, _Loss, f"{_LOSSES} ORDER BY last_ns DESC, losses.id DESC LIMIT ? OFFSET ?", (limit, skip))
    return [_make(row) for row in rows]


def read_facts(db: sqlite3.Connection, trace_id: bytes, orphans: Sequence[Orphan], now_ns: int) -> Facts:
    """Return the facts that `missing.explain_orphan` judges the orphans of one trace by; at least one."""
    begin_ns = min(orphan.start_ns for orphan in orphans) - LATE_NS
    end_ns = max(orphan.end_ns for orphan in orphans) + LATE_NS
    losses: dict[str, list[Loss]] = {}
    for row in read(db, _Loss, f"{_LOSSES} WHERE last_ns >= ? AND first_ns <= ?", (begin_ns, end_ns)):
        losses.setdefault(row.instance_id, []).append(_make(row))
    return Facts(
        now_ns=now_ns,
        refused=dict(db.execute("SELECT span_id, reason FROM refused_spans WHERE trace_id = ?", (trace_id,))),
        processes={
            row.instance_id: Process(
                state_of_publisher(row.state, row.last_seen_ns, now_ns),
                row.last_seen_ns,
                row.waiting,
                bool(row.is_foreign),
            )
            for row in read(db, _Publisher, _PUBLISHERS)
        },
        losses=losses,
    )


def _make(row: _Loss) -> Loss:
    return {
        "service": row.service,
        "host": row.host,
        "pid": row.pid,
        "reason": row.reason,
        "span_count": row.span_count,
        "first_ns": row.first_ns,
        "last_ns": row.last_ns,
    }
