"""Where spans are sent on to, and how far that has come.

One idea: ids of spans have no gaps, so what a destination is behind is a difference, however much that is.
"""

import sqlite3

from ztrace_viewer.documents import Destination, Refusal

#: Not named by the collector that had the file last; does not answer; refused spans since it last took some;
#: has not got all of them; has.
OFF, FAILING, REFUSING, BEHIND, UP_TO_DATE = "off", "failing", "refusing", "behind", "up to date"

#: The id of the span that was stored last, also if it has been deleted.
_LAST_ID = (
    "SELECT max((SELECT coalesce(max(id), 0) FROM spans),"
    " (SELECT coalesce(sum(value), 0) FROM totals WHERE name IN ('spans', 'spans_expired')))"
)
_DESTINATIONS = """
SELECT id, url, protocol, in_use, place, sent, refused, skipped, since_ns, success_ns, failing_ns, error,
    error_ns
FROM destinations ORDER BY in_use DESC, id
"""


def read_destinations(db: sqlite3.Connection) -> list[Destination]:
    """Return every destination, those in use first."""
    ((last_id,),) = db.execute(_LAST_ID)
    return [_read(db, last_id, *row) for row in db.execute(_DESTINATIONS).fetchall()]


def _read(
    db: sqlite3.Connection,
    last_id: int,
    key: int,
    url: str,
    protocol: str,
    in_use: int,
    place: int,
    sent: int,
    refused: int,
    skipped: int,
    since_ns: int,
    success_ns: int | None,
    failing_ns: int | None,
    error: str | None,
    error_ns: int | None,
) -> Destination:
    refusals: list[Refusal] = [
        {"reason": reason, "count": count, "last_ns": last_ns, "detail": detail}
        for reason, count, last_ns, detail in db.execute(
            "SELECT reason, count, last_ns, detail FROM destination_refusals WHERE destination = ?"
            " ORDER BY last_ns DESC, reason",
            (key,),
        )
    ]
    waiting = max(0, last_id - place)
    # Of the span that has waited longest, when it ended: it was stored a moment later.
    oldest = db.execute(
        "SELECT start_ns + coalesce(duration_ns, 0) FROM spans WHERE id > ? ORDER BY id LIMIT 1", (place,)
    ).fetchone()
    return {
        "url": url,
        "protocol": protocol,
        "state": _judge(in_use, failing_ns, refusals, success_ns, waiting),
        "spans_sent": sent,
        "spans_refused": refused,
        "spans_skipped": skipped,
        "spans_waiting": waiting,
        "waiting_since_ns": oldest[0] if waiting and oldest else None,
        "since_ns": since_ns,
        "success_ns": success_ns,
        "failing_since_ns": failing_ns,
        "error": error,
        "error_ns": error_ns,
        "refusals": refusals,
    }


def _judge(
    in_use: int, failing_ns: int | None, refusals: list[Refusal], success_ns: int | None, waiting: int
) -> str:
    if not in_use:
        return OFF
    if failing_ns is not None:
        return FAILING
    if refusals and refusals[0]["last_ns"] > (success_ns or 0):
        return REFUSING
    return BEHIND if waiting else UP_TO_DATE
