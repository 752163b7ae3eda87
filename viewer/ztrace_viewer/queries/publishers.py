"""Accounts of publishers: one page of them, and the sums of each service and of all.

One idea: after months, or an attack, a file may know tens of thousands of processes. Only a page of them is
read one by one; all others are added up by the database.
"""

from collections import Counter

from ztrace.records import INT64_MAX
from ztrace_collector.layout import LOSS_COLUMNS
from ztrace_viewer.documents.status import Publisher, ServicePublishers
from ztrace_viewer.queries.stores.answers import PublisherRow
from ztrace_viewer.queries.stores.store import Accounts
from ztrace_viewer.trees.states import state_of_publisher

#: Services listed, those with the most publishers.
MAX_SERVICES = 1_000


def read_publishers(store: Accounts, now_ns: int, limit: int, skip: int = 0) -> list[Publisher]:
    """Return a page of the publishers, the latest seen first."""
    return [_make(row, now_ns) for row in store.publishers(limit, skip)]


def read_services(store: Accounts, now_ns: int) -> list[ServicePublishers]:
    """Return the sums of each service, those with the most publishers first."""
    return [
        {
            "service": row.service,
            "publishers": row.publishers,
            "live": int(row.live),
            "silent": int(row.silent),
            "ended": int(row.ended),
            "crashed": int(row.crashed),
            "spans_created": row.spans_created,
            "spans_stored": row.spans_stored,
            "spans_lost": row.spans_lost,
            "last_seen_ns": row.last_seen_ns,
        }
        for row in store.services(now_ns, MAX_SERVICES)
    ]


def sum_reasons(store: Accounts, limit: int, others: str) -> Counter[str]:
    """Return the counts of what publishers changed, by reason; those beyond the highest under one name."""
    counts: Counter[str] = Counter()
    for at, row in enumerate(store.reasons()):
        reason = row.reason if at < limit else others
        counts[reason] = min(INT64_MAX, counts[reason] + row.number)
    return counts


def _make(row: PublisherRow, now_ns: int) -> Publisher:
    return {
        "service": row.service,
        "host": row.host,
        "pid": row.pid,
        "processes": row.processes,
        "state": state_of_publisher(row.state, row.last_seen_ns, now_ns),
        "spans_created": row.spans_created,
        "spans_stored": row.spans_stored,
        "spans_lost": sum(getattr(row, column) for column in LOSS_COLUMNS.values()),
        "spans_dropped": row.spans_dropped,
        "spans_tombstoned": row.spans_tombstoned,
        "spans_missing": row.spans_missing,
        "spans_undelivered": row.spans_undelivered,
        "spans_crashed": row.spans_crashed,
        "spans_refused": row.spans_refused,
        "spans_elsewhere": row.spans_elsewhere,
        "spans_waiting": row.spans_waiting,
        "samples_created": row.samples_created,
        "samples_stored": row.samples_stored,
        "samples_lost": row.samples_lost,
        "samples_elsewhere": row.samples_elsewhere,
        "last_seen_ns": row.last_seen_ns,
    }
