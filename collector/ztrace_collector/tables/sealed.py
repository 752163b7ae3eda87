"""Table ``sealed_traces``: traces that are sealed, unsealed and deleted, in the caller's transaction.

One idea: a sealed trace that is about to change becomes rows again first, with the ids that its spans had. So
the code that writes spans knows nothing of sealed ones.
"""

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ztrace_collector.layout import LATE, SEALED, SEALED_SPREAD
from ztrace_collector.sealing.form import Row, SealDamaged, decompress, peek, unpack
from ztrace_collector.sealing.reading import log_damage

#: Columns of ``spans`` but the trace id, as a SELECT needs them.
COLUMNS = ", ".join(Row._fields)
_INSERT = f"INSERT INTO spans (trace_id, {COLUMNS}) VALUES (?{', ?' * len(Row._fields)})"
_FROM = (
    "FROM traces JOIN sealed_traces ON trace = traces.id"
    " LEFT JOIN sealing_dictionaries ON sealing_dictionaries.id = dictionary"
)


class SealedTrace(NamedTuple):
    """A row of ``sealed_traces``.

    Attributes:
        key: of ``traces``.
        ids: those of its spans, in order.
        dictionary: key of ``sealing_dictionaries``.
        spans: the sealed spans.
    """

    key: int
    ids: Sequence[int]
    dictionary: int
    spans: bytes

    @property
    def first(self) -> int:
        """Id of the first span."""
        return self.ids[0]

    @property
    def last(self) -> int:
        """Id of the last span."""
        return self.ids[-1]


def insert_sealed(db: sqlite3.Connection, traces: Collection[SealedTrace]) -> None:
    """Replace the rows of traces' spans by sealed ones."""
    if not traces:
        return
    db.executemany(
        "INSERT INTO sealed_traces VALUES (?, ?, ?, ?, ?, ?)",
        [(each.key, each.first, each.last, len(each.ids), each.dictionary, each.spans) for each in traces],
    )
    db.executemany("DELETE FROM spans WHERE id = ?", [(id_,) for each in traces for id_ in each.ids])
    places = {
        SEALED: max(each.last for each in traces),
        SEALED_SPREAD: max(each.last - each.first for each in traces),
    }
    db.executemany(
        "UPDATE settling SET value = max(value, ?) WHERE name = ?",
        [(value, name) for name, value in places.items()],
    )


def take_sealed(db: sqlite3.Connection, trace_ids: Collection[bytes]) -> Iterator[tuple[bytes, list[Row]]]:
    """Delete the sealed rows of traces, and yield the spans of each, to be inserted by `insert_spans`.

    A trace that is damaged stays as it is, and so do its figures.
    """
    query = f"SELECT trace, first, spans, content {_FROM} WHERE traces.trace_id = ?"
    for trace_id in trace_ids:
        row = db.execute(query, (trace_id,)).fetchone()
        if row is None:
            continue
        trace, first, data, dictionary = row
        try:
            columns = unpack(data, dictionary or b"", first)
        except SealDamaged:
            log_damage(trace_id)
            # It cannot be counted again, so spans that come later are late, as those of a deleted trace.
            db.execute("UPDATE settled SET figures = ? WHERE trace = ?", (LATE, trace))
            continue
        db.execute("DELETE FROM sealed_traces WHERE trace = ?", (trace,))
        yield trace_id, [Row._make(each) for each in zip(*columns, strict=True)]


def insert_spans(db: sqlite3.Connection, trace_id: bytes, rows: Sequence[Row]) -> None:
    """Insert the spans of a trace with the ids that they had."""
    db.executemany(_INSERT, [(trace_id, *row) for row in rows])


def delete_sealed(db: sqlite3.Connection, traces: Sequence[int]) -> tuple[int, Counter[int]]:
    """Delete sealed traces, and return the number of their spans, also by instance.

    The instances of a damaged trace are unknown.

    Args:
        db: the database.
        traces: keys of ``traces``, sealed or not; their rows are still there.
    """
    among = ",".join(map(str, traces))
    count, instances = 0, Counter[int]()
    for trace_id, span_count, data, dictionary in db.execute(
        f"SELECT trace_id, sealed_traces.span_count, spans, content {_FROM} WHERE trace IN ({among})"
    ):
        count += span_count
        try:
            found = peek(decompress(data, dictionary or b"")[0]).instances
        except SealDamaged:
            log_damage(trace_id)
        else:
            instances.update(found)
    db.execute(f"DELETE FROM sealed_traces WHERE trace IN ({among})")
    return count, instances
