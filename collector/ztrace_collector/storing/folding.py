"""Accounts beyond a bound, added up into one account of their service.

One idea: an account holds its process's figures, which have to stay exact. Once no span of a process is
stored, its figures may be added to those of its service. The service with the most accounts folds first, so a
service that makes many keeps the accounts of others.
"""

import hashlib
import json
import sqlite3
from collections.abc import Sequence

from ztrace.records import INT64_MAX
from ztrace_collector.layout import LOSS_COLUMNS, SAMPLE_COLUMNS
from ztrace_collector.storing.store import Store
from ztrace_collector.tables.accounts import ENDED, bound_reasons
from ztrace_collector.tables.losses import MAX_ROWS

#: Accounts kept: more than a machine has processes, in 20 MB if each is as long as may be.
MAX_ACCOUNTS = 5_000
#: Accounts folded in one transaction.
PIECE_ACCOUNTS = 500
#: Interval between looks at their number, and after a look that found too many and none to fold.
LOOK_S, FULL_S = 0.5, 60.0
#: Service of accounts whose service has no other.
OTHERS = "(other services)"

_SUMS = ("spans_created", "spans_stored", "spans_elsewhere", *LOSS_COLUMNS.values(), *SAMPLE_COLUMNS)
#: Accounts of which nothing is stored but their figures.
_FOLDABLE = (
    "FROM publishers JOIN instances ON instances.id = instance WHERE spans_stored <= spans_expired"
    " AND instance NOT IN (SELECT instance FROM unfinished_spans)"
)


def fold_accounts(store: Store) -> float:
    """Fold some accounts if there are too many; return after how many seconds to look again.

    Raises:
        DatabaseError: nothing is folded.
    """
    ((count,),) = store.read("SELECT count(*) FROM publishers")
    if count <= MAX_ACCOUNTS:
        return LOOK_S
    with store.transaction() as db:
        service, rows = _choose(db, min(PIECE_ACCOUNTS, count - MAX_ACCOUNTS + 1))
        if rows:
            _fold(db, service, rows)
    store.forget("publishers")
    store.forget("losses")
    return 0.0 if rows else FULL_S


def _choose(db: sqlite3.Connection, limit: int) -> tuple[str, list[int]]:
    """Return the service to fold into and its instances, those heard of longest ago first."""
    most = db.execute(
        f"SELECT service, count(*) AS number {_FOLDABLE} AND service <> ?"
        " GROUP BY service ORDER BY number DESC LIMIT 1",
        (OTHERS,),
    ).fetchone()
    service, number = most or (OTHERS, 0)
    where, values = (" AND service = ?", [service]) if number > 2 else ("", [])
    rows = db.execute(
        f"SELECT instance {_FOLDABLE}{where} ORDER BY last_seen_ns, instance LIMIT {limit}", values
    )
    return service if where else OTHERS, [instance for (instance,) in rows]


def _fold(db: sqlite3.Connection, service: str, instances: Sequence[int]) -> None:
    """Add accounts up into that of their service, which may be one of them."""
    target = db.execute(
        "INSERT INTO instances (instance_id, service, host, pid, started_ns, processes)"
        " VALUES (?, ?, '', 0, 0, 0) ON CONFLICT (instance_id) DO UPDATE SET pid = pid RETURNING id",
        (hashlib.blake2b(f"folded {service}".encode(), digest_size=16).hexdigest(), service),
    ).fetchone()[0]
    everything = sorted({*instances, target})
    marks = ",".join("?" * len(everything))
    totals = [f"min({INT64_MAX}, CAST(total({name}) AS INTEGER))" for name in _SUMS]
    sums = db.execute(
        f"SELECT min(first_seen_ns), max(last_seen_ns), sum(processes), sum(spans_expired),"
        f" {', '.join(totals)} FROM publishers JOIN instances ON instances.id = instance"
        f" WHERE instance IN ({marks})",
        everything,
    ).fetchone()
    mended: dict[str, int] = {}
    for (text,) in db.execute(f"SELECT mended FROM publishers WHERE instance IN ({marks})", everything):
        for reason, count in json.loads(text).items():
            mended[reason] = min(INT64_MAX, mended.get(reason, 0) + count)
    db.execute(f"UPDATE losses SET instance = ? WHERE instance IN ({marks})", (target, *everything))
    db.execute(
        "DELETE FROM losses WHERE instance = ? AND id NOT IN"
        " (SELECT id FROM losses WHERE instance = ? ORDER BY last_ns DESC, id DESC LIMIT ?)",
        (target, target, MAX_ROWS),
    )
    for table in ("sequence_ranges", "publishers"):
        db.execute(f"DELETE FROM {table} WHERE instance IN ({marks})", everything)
    gone = [instance for instance in everything if instance != target]
    db.executemany("DELETE FROM instances WHERE id = ?", [(instance,) for instance in gone])
    first_ns, last_ns, processes, expired, *counts = sums
    db.execute(
        "UPDATE instances SET processes = ?, spans_expired = ? WHERE id = ?", (processes, expired, target)
    )
    columns = ("instance", "state", "next_sequence", "mended", "first_seen_ns", "last_seen_ns", *_SUMS)
    reasons = json.dumps(bound_reasons(mended), separators=(",", ":"))
    values = (target, ENDED, 0, reasons, first_ns, last_ns, *counts)
    db.execute(
        f"INSERT INTO publishers ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", values
    )
