"""Monitoring of a file.

One idea: the counters of what retention deletes are kept in rows of their own, so sums never fall.
"""

import sqlite3
from collections.abc import Iterator

from ztrace_collector.layout import LOSS_COLUMNS, OPEN, PAST, STORED_SPANS
from ztrace_viewer.queries.rows import name_columns, read, read_one
from ztrace_viewer.queries.stores.answers import FiguresRow
from ztrace_viewer.queries.stores.monitoring import FiguresState, GroupNumber, SpanCounters
from ztrace_viewer.queries.stores.sqlite.accounts import Accounts, sum_up

_RETIRED = f"SELECT {name_columns(FiguresRow, bucket='0')} FROM retired_figures"
_STATE_COLUMNS = name_columns(
    FiguresState,
    rows="count(*)",
    calls="CAST(total(calls) AS INTEGER)",
    total_ns="CAST(total(total_ns) AS INTEGER)",
    retired="(SELECT count(*) FROM retired_figures)",
    retired_calls="(SELECT CAST(total(calls) AS INTEGER) FROM retired_figures)",
)
_STATE = f"SELECT {_STATE_COLUMNS} FROM method_figures WHERE resolution_s = ? AND bucket < ?"
_NUMBER_COLUMNS = name_columns(
    GroupNumber, state=f"iif(state = '{OPEN}' AND first_ns >= ?, ?, state)", number="count(*)"
)
_NUMBERS = f"SELECT {_NUMBER_COLUMNS} FROM exception_groups GROUP BY 1, 2"


class Monitoring(Accounts):
    """Answers to monitoring."""

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__(db)

    def figures_state(self, resolution_s: int, end: int) -> FiguresState:
        """Return the state of the figures in the buckets below the end, and of the retired ones."""
        state = read_one(self.db, FiguresState, _STATE, (resolution_s, end))
        assert state is not None
        return state

    def retired_figures(self) -> Iterator[FiguresRow]:
        """Return the figures of methods that retention has deleted, with the bucket 0."""
        return read(self.db, FiguresRow, _RETIRED)

    def span_counters(self) -> SpanCounters:
        """Return the spans by their fate, with those of deleted publishers."""
        totals = dict(self.db.execute("SELECT name, value FROM totals"))
        columns = ["spans_created", *LOSS_COLUMNS.values()]
        row = self.db.execute(f"SELECT {', '.join(map(sum_up, columns))} FROM publishers").fetchone()
        sums = {
            column: value + totals.get(PAST + column, 0) for column, value in zip(columns, row, strict=True)
        }
        return SpanCounters(
            sums["spans_created"],
            sum(totals.get(name, 0) for name in STORED_SPANS),
            {reason: sums[column] for reason, column in LOSS_COLUMNS.items()},
        )

    def group_numbers(self, new_state: str, since_ns: int) -> Iterator[GroupNumber]:
        """Return the numbers of exception groups by service and state."""
        return read(self.db, GroupNumber, _NUMBERS, (since_ns, new_state))
