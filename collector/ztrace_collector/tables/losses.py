"""Lost spans with their publisher, time and reason: the table ``losses``.

One idea: a continuing loss is one row. A loss that touches the latest row of its publisher and reason is
added to it, so a flood of a minute is one line of ``ztrace status`` and not one for each message that
reported it.
"""

import sqlite3
from collections.abc import Sequence

from ztrace.records import INT64_MAX
from ztrace_collector.layout import SILENT_AFTER_NS
from ztrace_collector.tables.accounts import Loss
from ztrace_collector.tables.rows import Recent

#: Maximum of rows for one publisher and reason; beyond, the latest row is extended.
MAX_ROWS = 1_000
#: Latest rows kept in memory.
SIZE = 4096

#: (instance, reason)
_Key = tuple[int, str]


class _Row:
    """Latest row of a key: its id, None before it is inserted, the number of rows, and the loss."""

    __slots__ = ("id", "loss", "number")

    def __init__(self, id: int | None, number: int, loss: Loss) -> None:
        self.id = id
        self.number = number
        self.loss = loss


class Losses:
    """Table ``losses``, with its rows that belong to the transaction in progress."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._recent: Recent[_Key, _Row] = Recent(SIZE)
        self._written: dict[_Key, list[_Row]] = {}

    def forget(self) -> None:
        """Drop everything from memory, after a rollback or a deletion of rows."""
        self._recent.clear()
        self._written.clear()

    def add(self, instance: int, losses: Sequence[Loss]) -> None:
        """Add losses to the latest rows; `write` has to follow in the same transaction."""
        for loss in losses:
            key = instance, loss.reason
            rows = self._written.get(key)
            if rows is None:
                latest = self._recent.get(key) or self._load(key)
                rows = self._written[key] = [] if latest is None else [latest]
            if rows and (rows[-1].number >= MAX_ROWS or _touch(rows[-1].loss, loss)):
                rows[-1].loss = _merge(rows[-1].loss, loss)
            else:
                rows.append(_Row(None, rows[-1].number + 1 if rows else 1, loss))

    def write(self) -> None:
        """Write the changed rows."""
        for (instance, _), rows in self._written.items():
            for row in rows:
                if row.id is None:
                    cursor = self._db.execute(
                        "INSERT INTO losses (instance, reason, span_count, first_ns, last_ns,"
                        " first_sequence, last_sequence) VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (instance, *row.loss),
                    )
                    row.id = cursor.lastrowid
                else:
                    self._db.execute(
                        "UPDATE losses SET span_count = ?, first_ns = ?, last_ns = ?, first_sequence = ?,"
                        " last_sequence = ? WHERE id = ?",
                        (*row.loss[1:], row.id),
                    )
        self._recent.keep({key: rows[-1] for key, rows in self._written.items()})
        self._written.clear()

    def _load(self, key: _Key) -> _Row | None:
        row = self._db.execute(
            "SELECT max(id), count(*), reason, span_count, first_ns, last_ns, first_sequence, last_sequence"
            " FROM losses WHERE instance = ? AND reason = ?",
            key,
        ).fetchone()
        return None if row[0] is None else _Row(row[0], row[1], Loss(*row[2:]))


def _touch(one: Loss, other: Loss) -> bool:
    return one.first_ns - SILENT_AFTER_NS <= other.last_ns and other.first_ns - SILENT_AFTER_NS <= one.last_ns


def _merge(one: Loss, other: Loss) -> Loss:
    firsts = [loss.first_sequence for loss in (one, other) if loss.first_sequence is not None]
    lasts = [loss.last_sequence for loss in (one, other) if loss.last_sequence is not None]
    return Loss(
        one.reason,
        min(INT64_MAX, one.span_count + other.span_count),
        min(one.first_ns, other.first_ns),
        max(one.last_ns, other.last_ns),
        min(firsts, default=None),
        max(lasts, default=None),
    )
