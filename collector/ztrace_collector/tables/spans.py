"""The table ``spans``, whose ids have no gaps.

One idea: a reader that remembers the last id it has seen knows which spans are new, and how many of them have
been deleted meanwhile. So an id is never reused, not even after the newest spans were deleted.
"""

import sqlite3
from collections.abc import Collection, Sequence

from ztrace.records import Span
from ztrace_collector.checking.columns import Columns, link_texts
from ztrace_collector.layout import STORED_SPANS
from ztrace_collector.tables.rows import Insert
from ztrace_collector.tables.sealed import insert_spans, take_sealed

#: Fields of a span in other tables: kind and name in ``methods``, the exception in ``exceptions``.
_ELSEWHERE = ("kind", "name", "exception")
#: Fields of a span that are columns of this table.
STORED = tuple(name for name in Span._fields if name not in _ELSEWHERE)
#: Placeholder for the last span after its deletion, since SQLite continues from the highest id in the table.
_PLACE = (
    "INSERT INTO spans (id, trace_id, span_id, method, instance, start_ns, status)"
    " VALUES (?, x'', x'', 0, 0, 0, 0)"
)


class Spans:
    """Table ``spans``, with the last id given."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        #: Statements by the columns that have values.
        self._inserts: dict[tuple[str, ...], Insert] = {}
        self.forget()

    def forget(self) -> None:
        """Read the last id again after a rollback."""
        self._last_id = last_span_id(self._db)
        self._held = 0

    def hold_place(self) -> None:
        """Make ids continue after the last one; `release_place` has to follow in the same transaction."""
        (highest,) = self._db.execute("SELECT coalesce(max(id), 0) FROM spans").fetchone()
        if highest < self._last_id:
            self._held = self._last_id
            self._db.execute(_PLACE, (self._held,))

    def release_place(self) -> None:
        """Delete the placeholder of `hold_place`, if there is one."""
        if self._held:
            self._db.execute("DELETE FROM spans WHERE id = ?", (self._held,))
            self._held = 0

    def insert(self, instances: Sequence[int], columns: Columns, methods: Sequence[int]) -> None:
        """Insert a batch's spans, each of a process; a column without values costs nothing."""
        count = len(methods)
        made = {"links": link_texts(columns), **columns.measures}
        values = {name: made[name] if name in made else getattr(columns, name) for name in STORED}
        full = tuple([name for name, column in values.items() if column.count(None) != count])
        insert = self._inserts.get(full)
        if insert is None:
            insert = self._inserts[full] = Insert("spans", ", ".join(("method", "instance", *full)))
        insert.write_columns(self._db, [methods, instances, *map(values.__getitem__, full)])
        self._last_id += count

    def unseal(self, trace_ids: Collection[bytes]) -> None:
        """Make rows again of those of some traces that are sealed, before they change."""
        for trace_id, rows in take_sealed(self._db, trace_ids):
            if rows[-1].id == self._held:
                self.release_place()  # The last span itself holds the place.
            insert_spans(self._db, trace_id, rows)


def last_span_id(db: sqlite3.Connection) -> int:
    """Return the id of the span that was stored last, even if it has been deleted since."""
    (last_id,) = db.execute(
        "SELECT max((SELECT coalesce(max(id), 0) FROM spans),"
        f" (SELECT sum(value) FROM totals WHERE name IN {STORED_SPANS}))"
    ).fetchone()
    return int(last_id)
