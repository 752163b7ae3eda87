"""Destinations that spans are forwarded to, and the progress of each.

Each has a state, judged by its last success and failure.
"""

from ztrace_viewer.documents.status import Destination, Refusal
from ztrace_viewer.queries.stores.answers import DestinationRow
from ztrace_viewer.queries.stores.store import Accounts

#: States of a destination: not configured in the last collector of this file; not answering; refused spans
#: after the last success; with a backlog; without one.
OFF, FAILING, REFUSING, BEHIND, UP_TO_DATE = "off", "failing", "refusing", "behind", "up to date"


def read_destinations(store: Accounts) -> list[Destination]:
    """Return every destination, those in use first."""
    return [_make(store, row) for row in list(store.destinations())]


def _make(store: Accounts, row: DestinationRow) -> Destination:
    refusals: list[Refusal] = [
        {
            "reason": refusal.reason,
            "count": refusal.number,
            "last_ns": refusal.last_ns,
            "detail": refusal.detail,
        }
        for refusal in store.destination_refusals(row.key)
    ]
    return {
        "url": row.url,
        "protocol": row.protocol,
        "state": _judge(row, refusals),
        "spans_sent": row.sent,
        "spans_refused": row.refused,
        "spans_skipped": row.skipped,
        "spans_waiting": row.waiting,
        "waiting_since_ns": row.oldest_ns if row.waiting else None,
        "since_ns": row.since_ns,
        "success_ns": row.success_ns,
        "failing_since_ns": row.failing_ns,
        "error": row.error,
        "error_ns": row.error_ns,
        "refusals": refusals,
    }


def _judge(row: DestinationRow, refusals: list[Refusal]) -> str:
    if not row.in_use:
        return OFF
    if row.failing_ns is not None:
        return FAILING
    if refusals and refusals[0]["last_ns"] > (row.success_ns or 0):
        return REFUSING
    return BEHIND if row.waiting else UP_TO_DATE
