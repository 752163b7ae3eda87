"""Sums of what retention deletes: figures by method, and the accounts of publishers.

One idea: counters of a monitoring system may only rise. So rows that hold counts are added up here in the
transaction that deletes them, into a bounded number of rows.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence

from ztrace.records import INT64_MAX
from ztrace_collector.layout import LOSS_COLUMNS, PAST
from ztrace_collector.tables.figures import Figures, write_histogram

#: Columns of ``publishers`` whose sums are kept.
KEPT = ("spans_created", *LOSS_COLUMNS.values())

_COLUMNS = "calls, errors, total_ns, self_ns, histogram"


def retire_figures(db: sqlite3.Connection, selected: str, values: Sequence[object]) -> None:
    """Add figures that are about to be deleted to those retired.

    Args:
        db: the database, in a transaction.
        selected: SQL from WHERE on, of rows of ``method_figures`` with one resolution, that of days.
        values: parameters of this SQL.
    """
    sums: defaultdict[int, Figures] = defaultdict(Figures)
    for method, *columns in db.execute(f"SELECT method, {_COLUMNS} FROM method_figures {selected}", values):
        sums[method].add(Figures.read(*columns))
    for method, figures in sums.items():
        row = db.execute(f"SELECT {_COLUMNS} FROM retired_figures WHERE method = ?", (method,)).fetchone()
        if row is not None:
            figures.add(Figures.read(*row))
        db.execute(
            f"INSERT OR REPLACE INTO retired_figures (method, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
            (
                method,
                figures.calls,
                figures.errors,
                figures.total_ns,
                figures.self_ns,
                write_histogram(figures.histogram),
            ),
        )


def retire_publishers(db: sqlite3.Connection, instances: Sequence[int]) -> None:
    """Add the accounts of publishers that are about to be deleted to the totals."""
    marks = ",".join("?" * len(instances))
    columns = ", ".join(f"CAST(total({name}) AS INTEGER)" for name in KEPT)
    sums = db.execute(f"SELECT {columns} FROM publishers WHERE instance IN ({marks})", instances).fetchone()
    db.executemany(
        "INSERT INTO totals VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET"
        f" value = min({INT64_MAX}, value + excluded.value)",
        [(PAST + name, count) for name, count in zip(KEPT, sums, strict=True) if count],
    )
