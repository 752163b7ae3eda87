"""Rows of the trees that settling counts.

One idea: spans are read in order of arrival, in which most trees are together, and a tree that is whole then
is not looked up. Other small trees are read many at a time, since a query takes as long as counting a tree.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, repeat
from typing import Any, NamedTuple

from ztrace.records import UNFINISHED
from ztrace_collector.settling.counting import SpanRow
from ztrace_collector.settling.swept import Swept, make_row

#: Trees that are read at a time, and spans of a tree that is read with others.
AT_ONCE, MAX_SPANS = 64, 32

#: Higher than the id of any span.
LAST = 2**63 - 1

_SPAN = (
    "SELECT span_id, parent_id, method, instance, start_ns, start_ns + coalesce(duration_ns, 0),"
    " coalesce(duration_ns, 0), self_ns, status, cpu_ns, lane, id, trace_id FROM spans"
)
_ENDED = f"{_SPAN} WHERE trace_id = ? AND id <= ? ORDER BY id"
_OPEN = (
    f"SELECT span_id, parent_id, method, instance, start_ns, max(start_ns, seen_ns), NULL, NULL,"
    f" {UNFINISHED}, NULL, NULL FROM unfinished_spans WHERE trace_id = ?"
)
_SWEPT = f"{_SPAN} WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
_OF_ALL = f"WHERE trace_id IN ({', '.join('?' * AT_ONCE)})"
_TRACES = (
    "SELECT trace_id, id, span_count, end_ns, span, figures"
    f" FROM traces LEFT JOIN settled ON trace = traces.id {_OF_ALL}"
)
_ENDED_OF_ALL = f"{_SPAN} {_OF_ALL} ORDER BY trace_id, id"
_WITH_OPEN = f"SELECT DISTINCT trace_id FROM unfinished_spans {_OF_ALL}"
#: Queries of trees that are not counted as those of their spans alone, by table.
_OTHERS = {
    "unfinished_spans": _WITH_OPEN,
    "thinned_traces": f"SELECT trace_id FROM thinned_traces {_OF_ALL}",
}

#: Parents of spans that got others after a span, the latest first, so that the earliest counts.
_PARENTS_BEFORE = (
    "SELECT span_id, parent_id FROM adopted_spans WHERE trace_id = ? AND span > ? ORDER BY id DESC"
)


class TreeRows(NamedTuple):
    """Rows of a tree.

    Attributes:
        trace_id: id of its trace.
        trace: key of that in ``traces``.
        span_count: number of its spans.
        end_ns: end of its last span.
        settled: id of its last span that is counted, None if none is.
        figures: those that are counted, None if they are those of its spans.
        spans: its spans in order of arrival, None if they are not read yet.
        has_open: whether it may have unfinished spans.
    """

    trace_id: bytes
    trace: int
    span_count: int
    end_ns: int
    settled: int | None
    figures: str | None
    spans: Sequence[SpanRow] | None
    has_open: bool


_make_tree: Callable[[Iterable[Any]], TreeRows] = partial(tuple.__new__, TreeRows)


class TreeReader:
    """Reader of trees from one file, within a transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def sweep(self, after: int, last: int, most: int) -> Swept | None:
        """Return spans in order of arrival, None if there are none.

        Args:
            after: id of the span before the first.
            last: id of the last.
            most: limit of their number.
        """
        spans = self._db.execute(_SWEPT, (after, last, most)).fetchall()
        return Swept(spans) if spans else None

    def find_whole(
        self, swept: Swept, trace_ids: Sequence[bytes], after_ns: int
    ) -> Iterator[tuple[bytes, int]]:
        """Yield ids and keys of trees that are whole among swept spans, and were never counted.

        Trees that have unfinished spans, or were thinned, are left out.

        Args:
            swept: the spans.
            trace_ids: of the trees that may be.
            after_ns: end of the last span of the trees that are left out.
        """
        others = [query for table, query in _OTHERS.items() if self.has_rows(table)]
        for first in range(0, len(trace_ids), AT_ONCE):
            ids = trace_ids[first : first + AT_ONCE]
            left_out = {trace_id for query in others for (trace_id,) in self._select(query, ids)}
            for trace_id, trace, span_count, end_ns, settled, _ in self._select(_TRACES, ids):
                if (
                    settled is None
                    and span_count == len(swept.trees[trace_id])
                    and end_ns > after_ns
                    and trace_id not in left_out
                ):
                    yield trace_id, trace

    def read(
        self, trace_ids: Iterable[bytes], swept: Swept | None
    ) -> Iterator[tuple[bytes, TreeRows | None]]:
        """Yield the rows of each tree, in order; None for one that no longer exists.

        Args:
            trace_ids: of the trees.
            swept: spans that are read already, of which each tree may have others; None for none.
        """
        has_open = self.has_rows("unfinished_spans")
        remaining = iter(trace_ids)
        while ids := list(islice(remaining, AT_ONCE)):
            with_open = {trace_id for (trace_id,) in self._select(_WITH_OPEN, ids)} if has_open else ()
            trees: dict[bytes, TreeRows] = {}
            others: dict[bytes, list[SpanRow]] = {}
            for row in self._select(_TRACES, ids):
                trace_id, span_count = row[0], row[2]
                spans: list[SpanRow] | None = None
                if swept is not None and len(swept.trees[trace_id]) == span_count:
                    spans = swept.rows(trace_id)
                elif span_count <= MAX_SPANS:
                    spans = others[trace_id] = []
                trees[trace_id] = _make_tree((*row, spans, trace_id in with_open))
            for row in self._select(_ENDED_OF_ALL, list(others)):
                others[row[-1]].append(make_row(row))
            for trace_id in ids:
                yield trace_id, trees.get(trace_id)

    def read_spans(self, trace_id: bytes, last: int = LAST) -> Sequence[SpanRow]:
        """Return the spans of a tree up to one, with their parents as of then."""
        rows = list(map(make_row, self._db.execute(_ENDED, (trace_id, last))))
        if last < LAST and (before := dict(self._db.execute(_PARENTS_BEFORE, (trace_id, last)))):
            rows = [row._replace(parent_id=before.get(row.span_id, row.parent_id)) for row in rows]
        return rows

    def read_open(self, trace_id: bytes) -> list[SpanRow]:
        """Return the unfinished spans of a tree."""
        return [SpanRow(*row) for row in self._db.execute(_OPEN, (trace_id,))]

    def has_rows(self, table: str) -> bool:
        """Return whether a table has any row."""
        return self._db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None

    def _select(self, query: str, trace_ids: Sequence[bytes]) -> Iterable[Any]:
        """Return rows of some trees; the query always has as many parameters, so it is compiled once."""
        if not trace_ids:
            return ()
        return self._db.execute(query, [*trace_ids, *repeat(trace_ids[0], AT_ONCE - len(trace_ids))])
