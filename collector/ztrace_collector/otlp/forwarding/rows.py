"""Tables of forwarding: the position and counts of each destination.

One idea: a report covers all spans up to a position, and is written with that position in one transaction, so
counts and position agree whenever a process is killed.
"""

import sqlite3
from collections.abc import Iterable

from ztrace_collector.otlp.forwarding.messages import Report
from ztrace_collector.otlp.sending.destinations import GRPC, HTTP, Destination
from ztrace_collector.tables.spans import last_span_id

#: Condition on the destinations of this kind of forwarding.
_IS_OTLP = f"protocol IN ('{HTTP}', '{GRPC}')"


def register(db: sqlite3.Connection, destinations: Iterable[Destination], now_ns: int) -> list[int]:
    """Insert missing destinations, and mark all others as unused.

    A new destination starts after the last stored span.

    Returns:
        The key of each destination.
    """
    retire_all(db)
    keys = []
    for each in destinations:
        (key,) = db.execute(
            "INSERT INTO destinations (url, protocol, in_use, place, sent, refused, skipped, since_ns)"
            " VALUES (?, ?, 1, ?, 0, 0, 0, ?) ON CONFLICT (url) DO UPDATE SET in_use = 1 RETURNING id",
            (each.url, each.protocol, last_span_id(db), now_ns),
        ).fetchone()
        keys.append(key)
    return keys


def retire_all(db: sqlite3.Connection) -> None:
    """Mark all destinations as unused."""
    db.execute(f"UPDATE destinations SET in_use = 0 WHERE in_use <> 0 AND {_IS_OTLP}")


def write_reports(db: sqlite3.Connection, reports: Iterable[Report]) -> None:
    """Apply reports in their order."""
    for report in reports:
        if report.error is not None:
            db.execute(
                "UPDATE destinations SET error = ?, error_ns = ?, failing_ns = coalesce(failing_ns, ?)"
                " WHERE id = ?",
                (report.error, report.at_ns, report.at_ns, report.destination),
            )
            continue
        refused = sum(count for count, _ in report.refused.values())
        db.execute(
            "UPDATE destinations SET place = coalesce(?, place), sent = sent + ?, refused = refused + ?,"
            " skipped = skipped + ?, success_ns = iif(?, ?, success_ns),"
            " failing_ns = iif(?, NULL, failing_ns) WHERE id = ?",
            (
                report.place,
                report.sent,
                refused,
                report.skipped,
                report.sent,
                report.at_ns,
                report.sent or refused,
                report.destination,
            ),
        )
        db.executemany(
            "INSERT INTO destination_refusals (destination, reason, count, last_ns, detail)"
            " VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (destination, reason) DO UPDATE SET"
            " count = count + excluded.count, last_ns = excluded.last_ns, detail = excluded.detail",
            [
                (report.destination, reason, count, report.at_ns, detail)
                for reason, (count, detail) in report.refused.items()
            ],
        )
        db.executemany(
            "INSERT OR IGNORE INTO sent_unfinished_spans (trace_id, span_id, destination) VALUES (?, ?, ?)",
            [
                (bytes.fromhex(trace_id), bytes.fromhex(span_id), report.destination)
                for trace_id, span_id in report.unfinished
            ],
        )


def read_behind(db: sqlite3.Connection) -> list[tuple[str, int]]:
    """Return the destinations in use with unsent spans, and their numbers of unsent spans."""
    last_id = last_span_id(db)
    return db.execute(
        "SELECT url, :last - place FROM destinations"
        f" WHERE in_use AND place < :last AND {_IS_OTLP} ORDER BY id",
        {"last": last_id},
    ).fetchall()


def read_place(db: sqlite3.Connection, destination: int) -> int:
    """Return the id of the last span handled for a destination."""
    (place,) = db.execute("SELECT place FROM destinations WHERE id = ?", (destination,)).fetchone()
    return int(place)


def read_open_ended(db: sqlite3.Connection, destination: int, limit: int) -> list[tuple[bytes, bytes]]:
    """Return trace and span ids of unfinished spans to be sent, whose processes have ended."""
    # The process must have ended after the destination was added, and the span's end may be stored after all.
    return db.execute(
        "SELECT trace_id, span_id FROM unfinished_spans AS open JOIN publishers USING (instance)"
        " WHERE state IN ('ended', 'crashed')"
        " AND last_seen_ns >= (SELECT since_ns FROM destinations WHERE id = :destination)"
        " AND NOT EXISTS (SELECT 1 FROM sent_unfinished_spans AS sent WHERE sent.trace_id = open.trace_id"
        "  AND sent.span_id = open.span_id AND destination = :destination)"
        " AND NOT EXISTS (SELECT 1 FROM spans WHERE spans.trace_id = open.trace_id"
        "  AND spans.span_id = open.span_id) LIMIT :limit",
        {"destination": destination, "limit": limit},
    ).fetchall()
