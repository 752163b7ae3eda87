"""Totals of what is stored, lost and refused, and the account of each publisher.

One idea: a loss is counted where it happens, by the publisher or the collector, and only added up here. The
counts of each publisher add up to the spans it created.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ztrace.records import ABANDONED
from ztrace_collector.layout import LOSS_COLUMNS
from ztrace_collector.tables.accounts import bound_reasons
from ztrace_viewer.documents.status import Publisher, Refusal, StatusDocument
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.database import read_sizes
from ztrace_viewer.queries.destinations import read_destinations
from ztrace_viewer.queries.losses import WAITING, read_losses
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.trees.states import RUNNING, WITH_PROCESS, state_of_publisher, state_of_span

#: Reasons reported of those that publishers gave; the others are added up.
MAX_REASONS = 64


class _Publisher(NamedTuple):
    """A row of ``publishers``, with its process."""

    mended: str
    service: str
    host: str
    pid: int
    processes: int
    state: str
    spans_created: int
    spans_stored: int
    spans_dropped: int
    spans_tombstoned: int
    spans_missing: int
    spans_undelivered: int
    spans_crashed: int
    spans_refused: int
    spans_elsewhere: int
    spans_waiting: int
    last_seen_ns: int


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


_PUBLISHERS = f"""
SELECT {name_columns(_Publisher, spans_waiting=WAITING)}
FROM publishers JOIN instances ON instances.id = instance
ORDER BY last_seen_ns DESC, instance DESC
"""
_REFUSALS = f"SELECT {name_columns(_Refusal, number='count')} FROM refusals ORDER BY last_ns DESC, reason"
_OPEN = f"""
SELECT {name_columns(_Open, abandoned="instr(coalesce(attributes, ''), ?)")}
FROM unfinished_spans JOIN publishers USING (instance)
"""


def read_status(db: sqlite3.Connection, now_ns: int) -> StatusDocument:
    """Return the totals, every publisher with the latest first, and refusals by reason.

    ``rejected`` adds what the collector refused to what publishers cut or replaced themselves.
    """
    totals = read_totals(db.execute)
    refusals = _read_refusals(db)
    changed: Counter[str] = Counter()
    publishers = []
    for row in read(db, _Publisher, _PUBLISHERS):
        publishers.append(_make(row, now_ns))
        counts = read_json(row.mended)
        changed.update(counts if isinstance(counts, dict) else {})
    rejected = Counter(bound_reasons(changed, MAX_REASONS))
    rejected.update({refusal["reason"]: refusal["count"] for refusal in refusals})
    states = _count_states(db, now_ns)
    database_bytes, log_bytes = read_sizes(db)
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
        "database_bytes": database_bytes,
        "log_bytes": log_bytes,
        "losses": read_losses(db),
        "publishers": publishers,
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


def _make(row: _Publisher, now_ns: int) -> Publisher:
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
        "last_seen_ns": row.last_seen_ns,
    }
