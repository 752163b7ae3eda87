"""Accounts of publishers: one page of them, and the sums of each service and of all.

One idea: after months, or an attack, a file may know tens of thousands of processes. Only a page of them is
read one by one; all others are added up by the database.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ztrace.records import INT64_MAX
from ztrace_collector.layout import LOSS_COLUMNS, SAMPLE_COLUMNS, SILENT_AFTER_NS
from ztrace_viewer.documents.status import Publisher, ServicePublishers
from ztrace_viewer.queries.losses import WAITING
from ztrace_viewer.queries.rows import name_columns, read, read_one
from ztrace_viewer.trees.states import state_of_publisher

#: Services listed, those with the most publishers.
MAX_SERVICES = 1_000


class _Publisher(NamedTuple):
    """A row of ``publishers``, with its process."""

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
    samples_created: int
    samples_stored: int
    samples_lost: int
    samples_elsewhere: int
    last_seen_ns: int


class _Service(NamedTuple):
    """Sums over the publishers of a service."""

    service: str
    publishers: int
    live: int
    silent: int
    ended: int
    crashed: int
    spans_created: int
    spans_stored: int
    spans_lost: int
    last_seen_ns: int


class Sums(NamedTuple):
    """Sums over all publishers."""

    publishers: int
    spans_created: int
    spans_lost: int
    spans_elsewhere: int
    spans_waiting: int
    samples_created: int
    samples_stored: int
    samples_lost: int
    samples_elsewhere: int


class _Reason(NamedTuple):
    reason: str
    number: int


_FROM = "FROM publishers JOIN instances ON instances.id = instance"
_LOST = " + ".join(LOSS_COLUMNS.values())


def _sum(expression: str) -> str:
    """Return the SQL of a sum that does not overflow."""
    return f"CAST(total({expression}) AS INTEGER)"


_PUBLISHERS = f"""
SELECT {name_columns(_Publisher, spans_waiting=WAITING)} {_FROM}
ORDER BY last_seen_ns DESC, instance DESC LIMIT ? OFFSET ?
"""
_HEARD = "abs(last_seen_ns - :now) <= :silent"
_SERVICE_COLUMNS = name_columns(
    _Service,
    publishers="count(*)",
    live=f"total(state = 'live' AND {_HEARD})",
    silent=f"total(state = 'live' AND NOT {_HEARD})",
    ended="total(state = 'ended')",
    crashed="total(state = 'crashed')",
    spans_created=_sum("spans_created"),
    spans_stored=_sum("spans_stored"),
    spans_lost=_sum(_LOST),
    last_seen_ns="max(last_seen_ns)",
)
_SERVICES = f"""
SELECT {_SERVICE_COLUMNS} {_FROM} GROUP BY service
ORDER BY publishers DESC, service LIMIT {MAX_SERVICES}
"""
_SUM_COLUMNS = name_columns(
    Sums,
    publishers="count(*)",
    spans_created=_sum("spans_created"),
    spans_lost=_sum(_LOST),
    spans_elsewhere=_sum("spans_elsewhere"),
    spans_waiting=_sum(WAITING),
    **{column: _sum(column) for column in SAMPLE_COLUMNS},
)
_REASONS = f"""
SELECT {name_columns(_Reason, reason="key", number=_sum("value"))}
FROM (SELECT mended FROM publishers WHERE mended <> '{{}}' AND json_valid(mended)) AS given,
    json_each(given.mended) WHERE json_each.type = 'integer' GROUP BY 1 ORDER BY 2 DESC, 1
"""


def read_publishers(db: sqlite3.Connection, now_ns: int, limit: int, skip: int = 0) -> list[Publisher]:
    """Return a page of the publishers, the latest seen first."""
    return [_make(row, now_ns) for row in read(db, _Publisher, _PUBLISHERS, (limit, skip))]


def read_services(db: sqlite3.Connection, now_ns: int) -> list[ServicePublishers]:
    """Return the sums of each service, those with the most publishers first."""
    values = {"now": now_ns, "silent": SILENT_AFTER_NS}
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
        for row in read(db, _Service, _SERVICES, values)
    ]


def sum_publishers(db: sqlite3.Connection) -> Sums:
    """Return the sums over all publishers."""
    sums = read_one(db, Sums, f"SELECT {_SUM_COLUMNS} FROM publishers")
    assert sums is not None
    return sums


def sum_columns(db: sqlite3.Connection, columns: Sequence[str]) -> dict[str, int]:
    """Return the sums of some columns over all publishers."""
    row = db.execute(f"SELECT {', '.join(map(_sum, columns))} FROM publishers").fetchone()
    return dict(zip(columns, row, strict=True))


def sum_reasons(db: sqlite3.Connection, limit: int, others: str) -> Counter[str]:
    """Return the counts of what publishers changed, by reason; those beyond the highest under one name."""
    counts: Counter[str] = Counter()
    for at, row in enumerate(read(db, _Reason, _REASONS)):
        reason = row.reason if at < limit else others
        counts[reason] = min(INT64_MAX, counts[reason] + row.number)
    return counts


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
        "samples_created": row.samples_created,
        "samples_stored": row.samples_stored,
        "samples_lost": row.samples_lost,
        "samples_elsewhere": row.samples_elsewhere,
        "last_seen_ns": row.last_seen_ns,
    }
