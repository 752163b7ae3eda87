"""Trees of a file that are exported; one idea: each is chosen by its row in ``traces``, and read by itself.

Questions about many spans read one state of the file each, as an export takes as long as its reader does.
"""

import sqlite3
from collections.abc import Iterator, Sequence

from ztrace_collector.layout import HOUR_NS
from ztrace_collector.otlp.mapping.reading import (
    StoredProcess,
    StoredSpan,
    read_process,
    read_trace_after,
    read_traces,
    read_unfinished,
    read_unfinished_after,
)
from ztrace_viewer.queries.database import one_state
from ztrace_viewer.queries.rows import name_columns, read, read_one
from ztrace_viewer.queries.stores.answers import ChosenTree, ExportSize
from ztrace_viewer.queries.stores.conditions import TreeFilter

_OPEN_OF_TRACE = "FROM unfinished_spans WHERE unfinished_spans.trace_id = traces.trace_id"
_METHODS = "(SELECT id FROM methods WHERE service = ?)"
_SIZE = name_columns(
    ExportSize, trees="count(*)", spans="coalesce(sum(span_count), 0)", start_ns="coalesce(min(start_ns), 0)"
)


class Exporting:
    """Answers about trees that are exported."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def export_size(self, wanted: TreeFilter) -> ExportSize:
        """Return the size of an export, and the start of its first tree."""
        query, values = _choose(wanted)
        size = read_one(self.db, ExportSize, f"SELECT {_SIZE} FROM ({query})", values)
        assert size is not None
        return size

    def chosen_trees(self, wanted: TreeFilter) -> Iterator[ChosenTree]:
        """Yield the trees of an export in the order in which they began."""
        query, values = _choose(wanted)
        ordered = f"SELECT {name_columns(ChosenTree)} FROM ({query}) ORDER BY start_ns, trace_id"
        return read(self.db, ChosenTree, ordered, values)

    def whole_trees(self, trace_ids: Sequence[bytes], *, unfinished: bool) -> list[StoredSpan]:
        """Return the spans of some trees, those of each in the order of storing."""
        with one_state(self.db):
            found = read_traces(self.db, trace_ids)
            if unfinished:
                found += read_unfinished(self.db, trace_ids)
        return found

    def tree_pieces(self, trace_id: bytes, size: int, *, unfinished: bool) -> Iterator[list[StoredSpan]]:
        """Yield the spans of a large tree in pieces; the last one has those without an end."""
        after_id = 0
        while True:
            with one_state(self.db):
                spans = read_trace_after(self.db, trace_id, after_id, size)
                opened = read_unfinished(self.db, [trace_id]) if unfinished and not spans else []
            if not spans:
                yield opened
                return
            after_id = spans[-1].id
            yield spans

    def first_spans(
        self, trace_ids: Sequence[bytes], size: int, *, unfinished: bool = False
    ) -> dict[bytes, list[StoredSpan]]:
        """Return the first spans of some trees, so many of each."""
        return {each: self.tree_after(each, 0, size, unfinished=unfinished) for each in trace_ids}

    def tree_after(
        self, trace_id: bytes, after: int, size: int, *, unfinished: bool = False
    ) -> list[StoredSpan]:
        """Return spans of a tree behind one, so many at most."""
        read_after = read_unfinished_after if unfinished else read_trace_after
        return read_after(self.db, trace_id, after, size)

    def process(self, key: int) -> StoredProcess | None:
        """Return a process by the key that its spans have, None if it is unknown."""
        return read_process(self.db, key)


def _choose(wanted: TreeFilter) -> tuple[str, list[object]]:
    """Return the query of the chosen trees, ``trace_id, span_count, start_ns``, and its values."""
    query, values = _choose_stored(wanted)
    if wanted.unfinished and not wanted.errors:
        opened, opened_values = _choose_open(wanted)
        query, values = f"{query} UNION ALL {opened}", values + opened_values
    if wanted.limit is not None:
        query = f"SELECT * FROM ({query}) ORDER BY start_ns DESC, trace_id LIMIT ?"
        values = [*values, wanted.limit]
    return query, values


def _choose_stored(wanted: TreeFilter) -> tuple[str, list[object]]:
    conditions, values = _match_ids(wanted)
    began, named = "start_ns", "EXISTS (SELECT 1 FROM json_each(services) WHERE value = ?)"
    if wanted.unfinished:
        # An open root began before all ended spans, and its service may have no other span.
        began = f"min(start_ns, coalesce((SELECT min(start_ns) {_OPEN_OF_TRACE}), start_ns))"
        named = f"({named} OR EXISTS (SELECT 1 {_OPEN_OF_TRACE} AND method IN {_METHODS}))"
    if wanted.selection.since_ns is not None:
        conditions.append(f"hour >= ? AND {began} >= ?")
        values += (wanted.selection.since_ns // HOUR_NS, wanted.selection.since_ns)
    if wanted.selection.until_ns is not None:
        if not wanted.unfinished:
            conditions.append("hour <= ?")
            values.append(wanted.selection.until_ns // HOUR_NS)
        conditions.append(f"{began} < ?")
        values.append(wanted.selection.until_ns)
    if wanted.selection.service is not None:
        conditions.append(named)
        values += [wanted.selection.service] * named.count("?")
    if wanted.errors:
        conditions.append("error_count > 0")
    if wanted.slower_ns is not None:
        conditions.append("duration_ns > ?")
        values.append(wanted.slower_ns)
    return f"SELECT trace_id, span_count, {began} AS start_ns FROM traces{_where(conditions)}", values


def _choose_open(wanted: TreeFilter) -> tuple[str, list[object]]:
    """Return the same for the trees of which no span has ended."""
    conditions, values = _match_ids(wanted)
    conditions.append("NOT EXISTS (SELECT 1 FROM traces WHERE traces.trace_id = unfinished_spans.trace_id)")
    having = []
    if wanted.selection.since_ns is not None:
        having.append("min(start_ns) >= ?")
        values.append(wanted.selection.since_ns)
    if wanted.selection.until_ns is not None:
        having.append("min(start_ns) < ?")
        values.append(wanted.selection.until_ns)
    if wanted.selection.service is not None:
        having.append(f"sum(method IN {_METHODS}) > 0")
        values.append(wanted.selection.service)
    if wanted.slower_ns is not None:
        having.append("max(seen_ns) - min(start_ns) > ?")
        values.append(wanted.slower_ns)
    query = f"SELECT trace_id, 0, min(start_ns) FROM unfinished_spans{_where(conditions)} GROUP BY trace_id"
    return query + (f" HAVING {' AND '.join(having)}" if having else ""), values


def _match_ids(wanted: TreeFilter) -> tuple[list[str], list[object]]:
    if not wanted.trace_ids:
        return [], []
    return [f"trace_id IN ({', '.join('?' * len(wanted.trace_ids))})"], list(wanted.trace_ids)


def _where(conditions: list[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
