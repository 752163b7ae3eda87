"""Destinations that spans are forwarded to, and the progress of each.

One idea: ids of spans have no gaps, so a destination's backlog is the difference of two ids, at any size.
"""

import sqlite3
from typing import NamedTuple

from ztrace_viewer.documents.status import Destination, Refusal
from ztrace_viewer.queries.rows import name_columns, read

#: States of a destination: not configured in the last collector of this file; not answering; refused spans
#: after the last success; with a backlog; without one.
OFF, FAILING, REFUSING, BEHIND, UP_TO_DATE = "off", "failing", "refusing", "behind", "up to date"

#: Id of the last span stored, deleted or not.
_LAST_ID = (
    "SELECT max((SELECT coalesce(max(id), 0) FROM spans),"
    " (SELECT coalesce(sum(value), 0) FROM totals WHERE name IN ('spans', 'spans_expired')))"
)


class _Row(NamedTuple):
    """A row of ``destinations``."""

    id: int
    url: str
    protocol: str
    in_use: int
    place: int
    sent: int
    refused: int
    skipped: int
    since_ns: int
    success_ns: int | None
    failing_ns: int | None
    error: str | None
    error_ns: int | None


class _Refusal(NamedTuple):
    """A row of ``destination_refusals``."""

    reason: str
    number: int
    last_ns: int
    detail: str


_DESTINATIONS = f"SELECT {name_columns(_Row)} FROM destinations ORDER BY in_use DESC, id"
_REFUSALS = (
    f"SELECT {name_columns(_Refusal, number='count')} FROM destination_refusals WHERE destination = ?"
    " ORDER BY last_ns DESC, reason"
)


def read_destinations(db: sqlite3.Connection) -> list[Destination]:
    """Return every destination, those in use first."""
    ((last_id,),) = db.execute(_LAST_ID)
    return [_make(db, last_id, row) for row in list(read(db, _Row, _DESTINATIONS))]


def _make(db: sqlite3.Connection, last_id: int, row: _Row) -> Destination:
    refusals: list[Refusal] = [
        {
            "reason": refusal.reason,
            "count": refusal.number,
            "last_ns": refusal.last_ns,
            "detail": refusal.detail,
        }
        for refusal in read(db, _Refusal, _REFUSALS, (row.id,))
    ]
    waiting = max(0, last_id - row.place)
    # End of the span that has waited longest: it was stored a moment later.
    oldest = db.execute(
        "SELECT start_ns + coalesce(duration_ns, 0) FROM spans WHERE id > ? ORDER BY id LIMIT 1",
        (row.place,),
    ).fetchone()
    return {
        "url": row.url,
        "protocol": row.protocol,
        "state": _judge(row, refusals, waiting),
        "spans_sent": row.sent,
        "spans_refused": row.refused,
        "spans_skipped": row.skipped,
        "spans_waiting": waiting,
        "waiting_since_ns": oldest[0] if waiting and oldest else None,
        "since_ns": row.since_ns,
        "success_ns": row.success_ns,
        "failing_since_ns": row.failing_ns,
        "error": row.error,
        "error_ns": row.error_ns,
        "refusals": refusals,
    }


def _judge(row: _Row, refusals: list[Refusal], waiting: int) -> str:
    if not row.in_use:
        return OFF
    if row.failing_ns is not None:
        return FAILING
    if refusals and refusals[0]["last_ns"] > (row.success_ns or 0):
        return REFUSING
    return BEHIND if waiting else UP_TO_DATE
