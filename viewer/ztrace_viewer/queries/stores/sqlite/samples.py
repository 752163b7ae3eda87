"""Trees of a file that are read span by span."""

import sqlite3
from collections.abc import Collection, Sequence

from ztrace_collector.settling.clocks import read_host
from ztrace_collector.settling.counting import SpanRow
from ztrace_collector.tables.thresholds import weigh
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.answers import RootRow

_SPANS = (
    "SELECT span_id, parent_id, method, instance, start_ns, start_ns + coalesce(duration_ns, 0),"
    " coalesce(duration_ns, 0), self_ns, status, NULL, lane, id, attributes FROM all_spans"
    " WHERE trace_id = ? LIMIT ?"
)


class Samples:
    """Answers about trees that are read span by span."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def root_trees(self, methods: Collection[int], selection: Selection) -> list[RootRow]:
        """Return the trees of some root methods that began in a time, in any order."""
        conditions = [f"root_method IN ({','.join(map(str, sorted(methods)))})", "root_span_id IS NOT NULL"]
        values = []
        for moment_ns, comparison in ((selection.since_ns, ">="), (selection.until_ns, "<")):
            if moment_ns is not None:
                conditions.append(f"start_ns {comparison} ?")
                values.append(moment_ns)
        query = f"SELECT trace_id, duration_ns, threshold FROM traces WHERE {' AND '.join(conditions)}"
        rows = self.db.execute(query, values)
        return [RootRow(trace_id, duration_ns, weigh(threshold)) for trace_id, duration_ns, threshold in rows]

    def tree_spans(
        self, trace_ids: Sequence[bytes], most: int
    ) -> dict[bytes, list[tuple[SpanRow, str | None]]]:
        """Return the ended spans of trees as they are counted, so many of each, and their attributes."""
        found = {}
        for trace_id in trace_ids:
            rows = self.db.execute(_SPANS, (trace_id, most))
            if spans := [(SpanRow(*fields), attributes) for *fields, attributes in rows]:
                found[trace_id] = spans
        return found

    def host(self, instance: int) -> str | None:
        """Return the host of a process by its key, None if it is unknown."""
        return read_host(self.db, instance)
