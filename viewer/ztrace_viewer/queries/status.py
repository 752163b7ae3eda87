"""Totals of what is stored, lost and refused, and the account of each publisher.

One idea: a loss is counted where it happens, by the publisher or the collector, and only added up here. The
counts of each publisher add up to the spans it created.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ztrace_collector.tables.accounts import OTHER_REASONS
from ztrace_viewer.documents.status import Refusal, StatusDocument
from ztrace_viewer.queries.destinations import read_destinations
from ztrace_viewer.queries.losses import make_loss
from ztrace_viewer.queries.publishers import read_publishers, read_services, sum_reasons
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.trees.states import RUNNING, WITH_PROCESS, state_of_span

#: Reasons reported of those that publishers gave; the others are added up.
MAX_REASONS = 64
#: Publishers and losses listed unless a number is given.
DEFAULT_LIMIT = 1_000


def read_status(store: Store, now_ns: int, limit: int = DEFAULT_LIMIT, skip: int = 0) -> StatusDocument:
    """Return the totals, a page of the publishers with the latest first, and refusals by reason.

    ``rejected`` adds what the collector refused to what publishers cut or replaced themselves.

    Args:
        store: the store.
        now_ns: present time, by which a process is silent or not.
        limit: most publishers, and most losses, to list.
        skip: publishers and losses before the first one to list.
    """
    stored, sums = store.sizes(), store.publisher_sums()
    loss_count, losses = store.loss_page(limit, skip)
    refusals = _read_refusals(store)
    rejected = sum_reasons(store, MAX_REASONS, OTHER_REASONS)
    rejected.update({refusal["reason"]: refusal["count"] for refusal in refusals})
    states = _count_states(store, now_ns)
    ended = sum(states[state] for state in WITH_PROCESS)
    return {
        "spans_created": sums.spans_created,
        "spans_stored": stored.totals.get("spans", 0),
        "spans_expired": stored.totals.get("spans_expired", 0),
        "spans_thinned": stored.totals.get("spans_thinned", 0),
        "traces_stored": stored.totals.get("traces", 0),
        "traces_thinned": stored.totals.get("traces_thinned", 0),
        "spans_lost": sums.spans_lost,
        "spans_elsewhere": sums.spans_elsewhere,
        "spans_waiting": sums.spans_waiting,
        "spans_unsettled": stored.unsettled,
        "samples_created": sums.samples_created,
        "samples_stored": sums.samples_stored,
        "samples_lost": sums.samples_lost,
        "samples_elsewhere": sums.samples_elsewhere,
        "unfinished": states.total(),
        "unfinished_running": states[RUNNING],
        "unfinished_ended": ended,
        "unfinished_lost": states.total() - states[RUNNING] - ended,
        "database_bytes": stored.database_bytes,
        "log_bytes": stored.log_bytes,
        "loss_count": loss_count,
        "losses": [make_loss(loss) for loss in losses],
        "publisher_count": sums.publishers,
        "publishers": read_publishers(store, now_ns, limit, skip),
        "services": read_services(store, now_ns),
        "rejected": {reason: rejected[reason] for reason in sorted(rejected) if rejected[reason]},
        "refusals": refusals,
        "destinations": read_destinations(store),
    }


def read_totals(execute: Callable[[str], Iterable[tuple[Any, ...]]]) -> dict[str, int]:
    """Return the totals of a file by name; ``execute`` runs a query on it."""
    return dict(execute("SELECT name, value FROM totals"))


def read_refusal_counts(execute: Callable[[str], Iterable[tuple[Any, ...]]]) -> dict[str, int]:
    """Return the numbers of refusals and corrections of a file by reason; ``execute`` runs a query on it."""
    return dict(execute("SELECT reason, count FROM refusals"))


def _read_refusals(store: Store) -> list[Refusal]:
    return [
        {"reason": row.reason, "count": row.number, "last_ns": row.last_ns, "detail": row.detail}
        for row in store.refusals()
    ]


def _count_states(store: Store, now_ns: int) -> Counter[str]:
    """Return the number of spans without an end in each state."""
    return Counter(
        state_of_span(row.state, row.last_seen_ns, row.seen_ns, bool(row.abandoned), now_ns)["state"]
        for row in store.open_states()
    )
