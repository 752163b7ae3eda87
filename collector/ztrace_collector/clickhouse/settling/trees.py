"""Rows of whole trees in ClickHouse, as far as they are to be counted.

One idea: of each journal, the spans count that arrived by a time up to which all of its spans are there. So
what a tree was counted from can be read again, as long as nobody deletes spans.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ztrace.records import UNFINISHED
from ztrace_collector.settling.counting import SpanRow

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_NO_PARENT = "toFixedString('', 8)"
_SETTLED = (
    "SELECT trace_id, upto, span_count, figures FROM settled WHERE {} ORDER BY trace_id, revision DESC"
    " LIMIT 1 BY trace_id"
)
_SPANS = (
    f"SELECT s.span_id, nullIf(s.parent_id, {_NO_PARENT}), s.method, s.instance, s.start_ns,"
    " s.start_ns + s.duration_ns, s.duration_ns, s.self_ns, s.status, s.cpu_ns, s.lane, 0, s.trace_id,"
    " s.journal, toUnixTimestamp64Milli(s.arrived) FROM spans AS s WHERE {}"
)
#: Spans of one tree that several journals have, and of which it is not known yet which one counts.
_TWICE = (
    "({0}) AND (span_id, instance) IN (SELECT span_id, instance FROM spans WHERE ({0})"
    " AND (span_id, instance, journal) NOT IN (SELECT span_id, instance, journal FROM duplicates WHERE {0})"
    " GROUP BY span_id, instance HAVING uniqExact(journal) > 1) ORDER BY s.span_id, s.instance LIMIT {1}"
)
#: Memory of a query that it may take before it goes on with files.
_MAX_BYTES = 100_000_000
_OPEN = (
    f"SELECT u.span_id, nullIf(u.parent_id, {_NO_PARENT}), u.method, u.instance, min(u.start_ns),"
    f" max(greatest(u.start_ns, u.seen_ns)), NULL, NULL, {UNFINISHED}, NULL, NULL, 0, u.trace_id"
    " FROM unfinished_spans AS u FINAL WHERE {}"
    " GROUP BY u.trace_id, u.span_id, u.parent_id, u.method, u.instance"
)
_ADOPTED = "SELECT trace_id, span_id, instance, parent_id FROM adopted_spans FINAL WHERE {}"


class Settled(NamedTuple):
    """Row of ``settled``.

    Attributes:
        upto: arrival of the last span that is counted, in milliseconds, by journal.
        span_count: number of rows that were counted.
        figures: the figures as JSON if they are not those of the rows; or `LATE` or `LEFT_OUT`.
    """

    upto: Mapping[str, int]
    span_count: int
    figures: str


class StoredSpan(NamedTuple):
    """A span, and how it came."""

    row: SpanRow
    journal: str
    arrived_ms: int


#: As their `_make`, without a call of Python for each.
_make_row: Callable[[Iterable[Any]], SpanRow] = partial(tuple.__new__, SpanRow)
_make_span: Callable[[Iterable[Any]], StoredSpan] = partial(tuple.__new__, StoredSpan)
#: Columns of a row of the query of spans that are of a `SpanRow`.
_OF_ROW = len(SpanRow._fields)


class Tree(NamedTuple):
    """Rows of a tree.

    Attributes:
        spans: the spans that have ended, of all journals.
        opened: those that have not.
        parents: present parents of spans that got another one after they were sent, by span and process.
    """

    spans: list[StoredSpan]
    opened: list[SpanRow]
    parents: dict[tuple[bytes, int], bytes]


def write_ids(ids: Iterable[bytes]) -> str:
    """Return a condition on the trace ids."""
    # As one text, since the server takes a quarter of a millisecond for each call of a function in a list.
    among = ",".join([each.hex() for each in ids])
    return f"trace_id IN (SELECT toFixedString(unhex(arrayJoin(splitByChar(',', '{among}'))), 16))"


def read_settled(client: "Client", trace_ids: Collection[bytes]) -> dict[bytes, Settled]:
    """Return what is counted of trees."""
    rows = client.query(_SETTLED.format(write_ids(trace_ids))).result_rows
    return {trace_id: Settled(*fields) for trace_id, *fields in rows}


def read_trees(
    client: "Client",
    trace_ids: Collection[bytes],
    seen: Mapping[str, int],
    settled: Mapping[bytes, Settled],
) -> dict[bytes, Tree]:
    """Return the rows of trees.

    Args:
        client: the connection.
        trace_ids: the trees.
        seen: time up to which spans count, by journal.
        settled: what is counted of the trees, which another process may have counted further.
    """
    condition = write_ids(trace_ids)
    trees = {trace_id: Tree([], [], {}) for trace_id in trace_ids}
    for fields in _query(client, _SPANS, condition):
        journal, arrived_ms = fields[_OF_ROW:]
        trace_id = fields[_OF_ROW - 1]
        before = settled.get(trace_id)
        if arrived_ms <= seen.get(journal, 0) or (before and arrived_ms <= before.upto.get(journal, 0)):
            trees[trace_id].spans.append(_make_span((_make_row(fields[:_OF_ROW]), journal, arrived_ms)))
    ended = defaultdict[bytes, set[tuple[bytes, int]]](set)
    for fields in _query(client, _OPEN, condition):
        row = _make_row(fields)
        trace_id = row.trace_id
        # A journal takes a row back once it has the span, which may have gone to another one.
        if trace_id not in ended:
            ended[trace_id] |= {(each.row.span_id, each.row.instance) for each in trees[trace_id].spans}
        if (row.span_id, row.instance) not in ended[trace_id]:
            trees[trace_id].opened.append(row)
    for trace_id, span_id, instance, parent_id in _query(client, _ADOPTED, condition):
        trees[trace_id].parents[span_id, instance] = parent_id
    return trees


def read_twice(client: "Client", trace_id: bytes, limit: int) -> list[StoredSpan]:
    """Return spans of a tree of any size that several journals have, without those known as duplicates."""
    query = _SPANS.format(_TWICE.format(write_ids([trace_id]), limit))
    settings = {"max_bytes_before_external_group_by": _MAX_BYTES}
    return [
        StoredSpan(_make_row(fields[:_OF_ROW]), *fields[_OF_ROW:])
        for fields in client.query(query, settings=settings).result_rows
    ]


def _query(client: "Client", query: str, condition: str) -> Sequence[Any]:
    rows: Sequence[Any] = client.query(query.format(condition)).result_rows
    return rows
