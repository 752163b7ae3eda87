"""What is stored, and what is not and why: the sending processes and the messages that were refused.

One idea: what was lost was counted where it was lost, by the publisher or by the collector; here the counts
are only added up. Of each publisher they add up to the spans it created.
"""

import sqlite3
from collections import Counter

from ztrace.records import ABANDONED as ABANDONED_ATTRIBUTE
from ztrace_viewer.documents import Publisher, Refusal, StatusDocument
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.destinations import read_destinations
from ztrace_viewer.queries.losses import ACCOUNTED, read_losses
from ztrace_viewer.trees.states import RUNNING, WITH_PROCESS, state_of_publisher, state_of_span

_PUBLISHERS = f"""
SELECT mended, service, host, pid, state, spans_created, spans_stored, spans_dropped, spans_tombstoned,
    spans_missing, spans_undelivered, spans_crashed, spans_refused, spans_elsewhere,
    max(0, spans_created - ({ACCOUNTED})), last_seen_ns
FROM publishers JOIN instances ON instances.id = instance
ORDER BY last_seen_ns DESC, instance DESC
"""


def read_status(db: sqlite3.Connection, now_ns: int) -> StatusDocument:
    """Return the totals, every publisher with the latest first, and refusals by reason.

    ``rejected`` adds what the collector refused to what publishers had to cut or replace themselves.
    """
    totals = dict(db.execute("SELECT name, value FROM totals"))
    refusals = _read_refusals(db)
    rejected = Counter({refusal["reason"]: refusal["count"] for refusal in refusals})
    publishers = []
    for mended, *columns in db.execute(_PUBLISHERS):
        publishers.append(_publisher(now_ns, *columns))
        counts = read_json(mended)
        rejected.update(counts if isinstance(counts, dict) else {})
    states = _count_states(db, now_ns)
    ended = sum(states[state] for state in WITH_PROCESS)
    return {
        "spans_created": sum(publisher["spans_created"] for publisher in publishers),
        "spans_stored": totals.get("spans", 0),
        "spans_expired": totals.get("spans_expired", 0),
        "traces_stored": totals.get("traces", 0),
        "spans_lost": sum(publisher["spans_lost"] for publisher in publishers),
        "spans_elsewhere": sum(publisher["spans_elsewhere"] for publisher in publishers),
        "spans_waiting": sum(publisher["spans_waiting"] for publisher in publishers),
        "unfinished": states.total(),
        "unfinished_running": states[RUNNING],
        "unfinished_ended": ended,
        "unfinished_lost": states.total() - states[RUNNING] - ended,
        "losses": read_losses(db),
        "publishers": publishers,
        "rejected": {reason: rejected[reason] for reason in sorted(rejected) if rejected[reason]},
        "refusals": refusals,
        "destinations": read_destinations(db),
    }


def _read_refusals(db: sqlite3.Connection) -> list[Refusal]:
    return [
        {"reason": reason, "count": count, "last_ns": last_ns, "detail": detail}
        for reason, count, last_ns, detail in db.execute(
            "SELECT reason, count, last_ns, detail FROM refusals ORDER BY last_ns DESC, reason"
        )
    ]


def _count_states(db: sqlite3.Connection, now_ns: int) -> Counter[str]:
    """Return how many spans that have not ended are in each state."""
    return Counter(
        state_of_span(state, last_seen_ns, seen_ns, bool(abandoned), now_ns)["state"]
        for state, last_seen_ns, seen_ns, abandoned in db.execute(
            "SELECT state, last_seen_ns, seen_ns, instr(coalesce(attributes, ''), ?)"
            " FROM unfinished_spans JOIN publishers USING (instance)",
            (f'"{ABANDONED_ATTRIBUTE}":true',),
        )
    )


def _publisher(
    now_ns: int,
    service: str,
    host: str,
    pid: int,
    state: str,
    created: int,
    stored: int,
    dropped: int,
    tombstoned: int,
    missing: int,
    undelivered: int,
    crashed: int,
    refused: int,
    elsewhere: int,
    waiting: int,
    last_seen_ns: int,
) -> Publisher:
    return {
        "service": service,
        "host": host,
        "pid": pid,
        "state": state_of_publisher(state, last_seen_ns, now_ns),
        "spans_created": created,
        "spans_stored": stored,
        "spans_lost": dropped + tombstoned + missing + undelivered + crashed + refused,
        "spans_dropped": dropped,
        "spans_tombstoned": tombstoned,
        "spans_missing": missing,
        "spans_undelivered": undelivered,
        "spans_crashed": crashed,
        "spans_refused": refused,
        "spans_elsewhere": elsewhere,
        "spans_waiting": waiting,
        "last_seen_ns": last_seen_ns,
    }
