"""What is stored, and what is not and why: the sending processes and the messages that were refused.

One idea: what was lost was counted where it was lost, by the publisher or by the collector; here the counts
are only added up.
"""

import sqlite3
from collections import Counter

from ztrace_collector.layout import RESOLUTIONS_S
from ztrace_viewer.documents import Publisher, StatusDocument
from ztrace_viewer.json_text import read_json

#: A publisher beats every second: after five without one it is silent.
SILENT_AFTER_NS = 5_000_000_000


def read_status(db: sqlite3.Connection, now_ns: int) -> StatusDocument:
    """Return the totals, every publisher with the latest first, and refusals by reason.

    ``rejected`` adds what the collector refused to what publishers had to cut or replace themselves.
    """
    totals = dict(db.execute("SELECT name, value FROM totals"))
    rejected = Counter(dict(db.execute("SELECT reason, count FROM refusals")))
    publishers = []
    for mended, *columns in db.execute(
        "SELECT mended, service, host, pid, state, spans_created, spans_stored, spans_dropped,"
        " spans_missing + spans_tombstoned + spans_undelivered + spans_crashed, spans_refused, last_seen_ns"
        " FROM publishers JOIN instances ON instances.id = instance"
        " ORDER BY last_seen_ns DESC, instance DESC"
    ):
        publishers.append(_publisher(now_ns, *columns))
        counts = read_json(mended)
        rejected.update(counts if isinstance(counts, dict) else {})
    return {
        "spans_stored": totals.get("spans", 0),
        "traces_stored": totals.get("traces", 0),
        "spans_lost": sum(publisher["spans_lost"] for publisher in publishers),
        "unfinished": _count_unfinished(db, totals.get("spans", 0)),
        "publishers": publishers,
        "rejected": {reason: rejected[reason] for reason in sorted(rejected) if rejected[reason]},
    }


def _count_unfinished(db: sqlite3.Connection, spans_stored: int) -> int:
    """Return how many spans are stored without their end: all that are in no method's figures.

    ``spans`` has no index on status, and is not to be scanned.
    """
    query = "SELECT coalesce(sum(calls), 0) FROM method_figures WHERE resolution_s = ?"
    return max(0, spans_stored - int(db.execute(query, (RESOLUTIONS_S[-1],)).fetchone()[0]))


def _publisher(
    now_ns: int,
    service: str,
    host: str,
    pid: int,
    state: str,
    created: int,
    stored: int,
    dropped: int,
    missing: int,
    refused: int,
    last_seen_ns: int,
) -> Publisher:
    if state == "live" and now_ns - last_seen_ns > SILENT_AFTER_NS:
        state = "silent"
    return {
        "service": service,
        "host": host,
        "pid": pid,
        "state": state,
        "spans_created": created,
        "spans_stored": stored,
        "spans_lost": dropped + missing + refused,
        "spans_dropped": dropped,
        "spans_missing": missing,
        "spans_refused": refused,
        "last_seen_ns": last_seen_ns,
    }
