"""Totals of what is stored, lost and refused, and the account of each publisher.

One idea: a loss is counted where it happens, by the publisher or the collector, and only added up here. The
counts of each publisher add up to the spans it created.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ztrace.records import ABANDONED
from ztrace_collector.tables.accounts import OTHER_REASONS
from ztrace_viewer.documents.status import Refusal, StatusDocument
from ztrace_viewer.queries.database import read_sizes
from ztrace_viewer.queries.destinations import read_destinations
from ztrace_viewer.queries.losses import count_losses, read_losses
from ztrace_viewer.queries.paths import count_unsettled
from ztrace_viewer.queries.publishers import read_publishers, read_services, sum_publishers, sum_reasons
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.trees.states import RUNNING, WITH_PROCESS, state_of_span

#: Reasons reported of those that publishers gave; the others are added up.
MAX_REASONS = 64
#: Publishers and losses listed unless a number is given.
DEFAULT_LIMIT = 1_000


class _Refusal(NamedTuple):
    """A row of ``refusals``."""

    reason: str
    number: int
    last_ns: int
    detail: str


class _Open(NamedTuple):
    """The last report of a span without an end, and its publisher."""

    state: str
    last_seen_ns: int
    seen_ns: int
    abandoned: int


_REFUSALS = f"SELECT {name_columns(_Refusal, number='count')} FROM refusals ORDER BY last_ns DESC, reason"
_OPEN = f"""
SELECT {name_columns(_Open, abandoned="instr(coalesce(attributes, ''), ?)")}
FROM unfinished_spans JOIN publishers USING (instance)
"""


def read_status(
    db: sqlite3.Connection, now_ns: int, limit: int = DEFAULT_LIMIT, skip: int = 0
) -> StatusDocument:
    """Return the totals, a page of the publishers with the latest first, and refusals by reason.

    ``rejected`` adds what the collector refused to what publishers cut or replaced themselves.

    Args:
        db: from `open_database`.
        now_ns: present time, by which a process is silent or not.
        limit: most publishers, and most losses, to list.
        skip: publishers and losses before the first one to list.
    """
    totals, sums = read_totals(db.execute), sum_publishers(db)
    refusals = _read_refusals(db)
    rejected = sum_reasons(db, MAX_REASONS, OTHER_REASONS)
    rejected.update({refusal["reason"]: refusal["count"] for refusal in refusals})
    states = _count_states(db, now_ns)
    database_bytes, log_bytes = read_sizes(db)
    ended = sum(states[state] for state in WITH_PROCESS)
    return {
        "spans_created": sums.spans_created,
        "spans_stored": totals.get("spans", 0),
        "spans_expired": totals.get("spans_expired", 0),
        "traces_stored": totals.get("traces", 0),
        "spans_lost": sums.spans_lost,
        "spans_elsewhere": sums.spans_elsewhere,
        "spans_waiting": sums.spans_waiting,
        "spans_unsettled": count_unsettled(db),
        "samples_created": sums.samples_created,
        "samples_stored": sums.samples_stored,
        "samples_lost": sums.samples_lost,
        "samples_elsewhere": sums.samples_elsewhere,
        "unfinished": states.total(),
        "unfinished_running": states[RUNNING],
        "unfinished_ended": ended,
        "unfinished_lost": states.total() - states[RUNNING] - ended,
        "database_bytes": database_bytes,
        "log_bytes": log_bytes,
        "loss_count": count_losses(db),
        "losses": read_losses(db, limit, skip),
        "publisher_count": sums.publishers,
        "publishers": read_publishers(db, now_ns, limit, skip),
        "services": read_services(db, now_ns),
        "rejected": {reason: rejected[reason] for reason in sorted(rejected) if rejected[reason]},
        "refusals": refusals,
        "destinations": read_destinations(db),
    }


def read_totals(execute: Callable[[str], Iterable[tuple[Any, ...]]]) -> dict[str, int]:
    """Return the totals of a file by name; ``execute`` runs a query on it."""
    return dict(execute("SELECT name, value FROM totals"))


def read_refusal_counts(execute: Callable[[str], Iterable[tuple[Any, ...]]]) -> dict[str, int]:
    """Return the numbers of refusals and corrections of a file by reason; ``execute`` runs a query on it."""
    return dict(execute("SELECT reason, count FROM refusals"))


def _read_refusals(db: sqlite3.Connection) -> list[Refusal]:
    return [
        {"reason": row.reason, "count": row.number, "last_ns": row.last_ns, "detail": row.detail}
        for row in read(db, _Refusal, _REFUSALS)
    ]


def _count_states(db: sqlite3.Connection, now_ns: int) -> Counter[str]:
    """Return the number of spans without an end in each state."""
    return Counter(
        state_of_span(row.state, row.last_seen_ns, row.seen_ns, bool(row.abandoned), now_ns)["state"]
        for row in read(db, _Open, _OPEN, (f'"{ABANDONED}":true',))
    )
