"""Losses of spans, and the facts that explain a span's missing parent.

One idea: a flood of losses is one row, so all are read at once. The facts are read for trees with orphans
only.
"""

from collections.abc import Sequence

from ztrace_viewer.documents.trees import Loss
from ztrace_viewer.queries.stores.answers import LossRow
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.trees.missing import LATE_NS, Facts, Orphan, Process
from ztrace_viewer.trees.states import state_of_publisher


def read_facts(store: Store, trace_id: bytes, orphans: Sequence[Orphan], now_ns: int) -> Facts:
    """Return the facts that `missing.explain_orphan` judges the orphans of one trace by; at least one."""
    begin_ns = min(orphan.start_ns for orphan in orphans) - LATE_NS
    end_ns = max(orphan.end_ns for orphan in orphans) + LATE_NS
    losses: dict[str, list[Loss]] = {}
    for row in store.losses(begin_ns, end_ns):
        losses.setdefault(row.instance_id, []).append(make_loss(row))
    return Facts(
        now_ns=now_ns,
        refused=store.refused_spans(trace_id),
        processes={
            row.instance_id: Process(
                state_of_publisher(row.state, row.last_seen_ns, now_ns),
                row.last_seen_ns,
                row.waiting,
                bool(row.is_foreign),
            )
            for row in store.sources()
        },
        losses=losses,
        is_thinned=store.is_thinned(trace_id),
    )


def make_loss(row: LossRow) -> Loss:
    """Return a loss as a document."""
    return {
        "service": row.service,
        "host": row.host,
        "pid": row.pid,
        "reason": row.reason,
        "span_count": row.span_count,
        "first_ns": row.first_ns,
        "last_ns": row.last_ns,
    }
