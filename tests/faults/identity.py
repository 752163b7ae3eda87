"""What every fault ends in: each span that was made is in exactly one column of its publisher's account.

One idea: three counts that know nothing of each other have to agree: the maker's own, the collector's
accounts, and the rows in ``spans``.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from ztrace_collector.layout import LOSS_COLUMNS


class Account(NamedTuple):
    """One incarnation's row, its losses by reason.

    Attributes:
        rows: how many rows of ``spans`` it really has.
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
    """Read every publisher's account, in the order in which they were first seen."""
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
    """Return how many spans the accounts say are stored; at once, however many there are."""
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as db:
        return int(db.execute("SELECT coalesce(sum(spans_stored), 0) FROM publishers").fetchone()[0])


def count_duplicates(database: Path) -> int:
    """Return how many rows of ``spans`` there are beyond one for each span."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as db:
        rows, distinct = db.execute(
            "SELECT count(*), count(DISTINCT trace_id || span_id) FROM spans"
        ).fetchone()
        return int(rows - distinct)


def check(database: Path, made: int, least: int | None = None) -> list[Account]:
    """See that the identity holds, and return the accounts it holds for.

    Args:
        database: the collector's file.
        made: spans that all makers together say they made.
        least: if one was killed: spans that they made for sure.
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
    """Return how many spans are not stored, for whatever reason."""
    return sum(account.created - account.stored for account in accounts)
