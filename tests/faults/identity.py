"""The identity: every span made is in exactly one column of its publisher's account.

One idea: three independent counts must agree: the maker's own, the collector's accounts, and the rows in
``spans``.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from ztrace_collector.layout import LOSS_COLUMNS


class Account(NamedTuple):
    """Row of one incarnation, with its losses by reason.

    Attributes:
        rows: the actual number of its rows in ``spans``.
    """

    instance_id: str
    pid: int
    state: str
    created: int
    stored: int
    elsewhere: int
    lost: Mapping[str, int]
    rows: int


def read_accounts(database: Path) -> list[Account]:
    """Read every publisher's account, in the order of first messages."""
    columns = ", ".join(LOSS_COLUMNS.values())
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as db:
        db.execute("BEGIN")
        counts = dict(db.execute("SELECT instance, count(*) FROM spans GROUP BY instance"))
        found = db.execute(
            "SELECT instance, instance_id, pid, state, spans_created, spans_stored, spans_elsewhere,"
            f" {columns} FROM publishers JOIN instances ON instances.id = instance ORDER BY instance"
        )
        return [
            Account(
                instance_id=row[1],
                pid=row[2],
                state=row[3],
                created=row[4],
                stored=row[5],
                elsewhere=row[6],
                lost=dict(zip(LOSS_COLUMNS, row[7:], strict=True)),
                rows=counts.get(row[0], 0),
            )
            for row in found
        ]


def count_stored(database: Path) -> int:
    """Return the number of stored spans by the accounts, in constant time."""
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as db:
        return int(db.execute("SELECT coalesce(sum(spans_stored), 0) FROM publishers").fetchone()[0])


def count_duplicates(database: Path) -> int:
    """Return the number of surplus rows in ``spans``."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as db:
        rows, distinct = db.execute(
            "SELECT count(*), count(DISTINCT trace_id || span_id) FROM spans"
        ).fetchone()
        return int(rows - distinct)


def check(database: Path, made: int, least: int | None = None) -> list[Account]:
    """Assert the identity, and return the accounts.

    Args:
        database: the collector's file.
        made: the number of spans made by all makers.
        least: after a kill, the number of spans made for certain.
    """
    accounts = read_accounts(database)
    for account in accounts:
        kept = account.stored + account.elsewhere + sum(account.lost.values())
        assert account.created == kept, f"created {account.created:,}, accounted for {kept:,}: {account}"
        assert account.rows == account.stored, f"{account.rows:,} rows for {account}"
    created = sum(account.created for account in accounts)
    assert (made if least is None else least) <= created <= made, f"made {made:,}, created {created:,}"
    assert count_duplicates(database) == 0
    return accounts


def lost(accounts: Sequence[Account]) -> int:
    """Return the number of spans not stored, for any reason."""
    return sum(account.created - account.stored for account in accounts)
