"""Exceptions of traces that several journals have, as one that had the whole trace would count them.

One idea: each journal has found the origins among its own spans, and counted them, and may find others once
more spans have come. So its rows stay as they are. Beside them are corrected rows, and what has to be added
to the journal's counts. When a trace is looked at again, the difference to its corrections before is written.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ztrace.records import PASSED, RAISED
from ztrace_collector.clickhouse.merging import NEVER
from ztrace_collector.clickhouse.settling.outcome import Outcome
from ztrace_collector.clickhouse.settling.trees import write_ids
from ztrace_collector.layout import MINUTE_NS
from ztrace_collector.tables.derived import MAX_FAILED
from ztrace_collector.tables.origins import CORRECTED, TOLD, Failed, Key, find_key, find_origins, follow_all

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Traces with exceptions in several journals.
_SPLIT = "SELECT trace_id FROM exceptions WHERE {} GROUP BY trace_id HAVING uniqExact(journal) > 1"
_READ = (
    "SELECT trace_id, journal, id, span_id, nullIf(parent_id, toFixedString('', 8)), kind, instance, at_ns,"
    " type, message, how, origin_trace_id, origin_span_id, derived, exception_group, other_origins, service"
    f" FROM exceptions FINAL WHERE trace_id IN ({_SPLIT}) AND {{}}"
    f" ORDER BY at_ns DESC, journal DESC, id DESC LIMIT {MAX_FAILED} BY trace_id"
)
_UNCAUGHT = "SELECT trace_id, origin_span_id, journal FROM uncaught_exceptions FINAL WHERE {}"
_DUPLICATES = "SELECT trace_id, span_id, instance, journal FROM duplicates WHERE {}"
_BEFORE = (
    "SELECT trace_id, journal, id, exception_group, counted_group, at_ns, count, uncaught_count"
    " FROM corrected_exceptions FINAL WHERE {}"
)


class _Row(NamedTuple):
    """Row of ``exceptions`` as a journal has it."""

    trace_id: bytes
    journal: str
    id: int
    span_id: bytes
    parent_id: bytes | None
    kind: str
    instance: int
    at_ns: int
    type: str
    message: str
    how: str
    origin_trace_id: bytes
    origin_span_id: bytes
    derived: int
    exception_group: str
    other_origins: str
    service: str

    @property
    def origin(self) -> Key:
        return self.origin_trace_id, self.origin_span_id

    @property
    def own(self) -> Key:
        return self.trace_id, self.span_id

    @property
    def others(self) -> tuple[bytes, ...]:
        return tuple(map(bytes.fromhex, json.loads(self.other_origins))) if self.other_origins else ()

    @property
    def leaves_unhandled(self) -> bool:
        return self.parent_id is None or self.kind == "consumer"

    def as_failed(self) -> Failed:
        return Failed(*self[3:11], self.origin, self.derived)


class _Trace(NamedTuple):
    """Exceptions of a trace.

    Attributes:
        id: the trace.
        rows: its exceptions.
        duplicates: those of spans that another journal has too, and that do not count.
        uncaught: journals with the spans of origins that they know to be uncaught.
    """

    id: bytes
    rows: Sequence[_Row]
    duplicates: Sequence[_Row]
    uncaught: Collection[tuple[str, bytes]]


class _Place(NamedTuple):
    """Origin of an exception, and those of the members of its group, among the spans of all journals."""

    key: Key
    others: tuple[bytes, ...]


class _Correction(NamedTuple):
    """Group of an exception in the whole trace, and what is added to the counts of its journal."""

    group: str
    counted_group: str
    at_ns: int
    occurred: int
    uncaught: int


def correct_origins(client: "Client", trace_ids: Collection[bytes], outcome: Outcome) -> None:
    """Add to an outcome the corrections of traces, as far as they are new.

    Args:
        client: the connection.
        trace_ids: the traces.
        outcome: of the step, with the duplicates that it has found.
    """
    condition = write_ids(trace_ids)
    traces = defaultdict[bytes, list[_Row]](list)
    for fields in client.query(_READ.format(condition, condition)).result_rows:
        row = _Row._make(fields)
        traces[row.trace_id].append(row)
    if not traces:
        return
    condition = write_ids(traces)
    duplicates = {tuple(fields) for fields in client.query(_DUPLICATES.format(condition)).result_rows}
    duplicates |= {(bytes.fromhex(row[0]), bytes.fromhex(row[1]), *row[2:4]) for row in outcome.duplicates}
    uncaught = {tuple(fields) for fields in client.query(_UNCAUGHT.format(condition)).result_rows}
    before: dict[bytes, dict[tuple[str, int], _Correction]] = {}
    for trace_id, journal, id_, *fields in client.query(_BEFORE.format(condition)).result_rows:
        before.setdefault(trace_id, {})[journal, id_] = _Correction._make(fields)
    for trace_id, rows in traces.items():
        kept, others = list[_Row](), list[_Row]()
        for row in reversed(rows):
            (others if (*row.own, row.instance, row.journal) in duplicates else kept).append(row)
        known = {(journal, span_id) for each, span_id, journal in uncaught if each == trace_id}
        _correct(_Trace(trace_id, kept, others, known), before.get(trace_id, {}), outcome)


def _correct(trace: _Trace, before: Mapping[tuple[str, int], _Correction], outcome: Outcome) -> None:
    """Add the corrections of one trace to an outcome, if there are any, or were before."""
    places = _find_places(trace)
    reached = _find_uncaught(trace, places)
    groups = {row.own: row.exception_group for row in trace.rows if row.origin == row.own}
    corrected = list[tuple[_Row, _Place, _Correction]]()
    counted = set[tuple[str, bytes]]()
    for row, place in [*zip(trace.rows, places, strict=True), *((row, None) for row in trace.duplicates)]:
        of_origin = row.journal, row.span_id
        group, occurred, uncaught = row.exception_group, 0, 0
        if row.origin == row.own and row.exception_group and of_origin not in counted:
            counted.add(of_origin)
            is_origin = place is not None and place.key == row.own
            occurred = int(is_origin) - 1
            uncaught = int(is_origin and row.span_id in reached) - int(of_origin in trace.uncaught)
        if place is None:
            place = _Place(row.origin, row.others)
        elif place.key != row.origin or not group:
            group = groups.get(place.key, "")
        now = _Correction(group, row.exception_group, row.at_ns, occurred, uncaught)
        corrected.append((row, place, now))
    if before or any(_is_other(*each) for each in corrected):
        for row, place, now in corrected:
            _add(outcome, row, now, before.get((row.journal, row.id)))
            outcome.exceptions.append(_make_corrected(row, place, now))


def _is_other(row: _Row, place: _Place, now: _Correction) -> bool:
    is_same = (place.key, place.others, now.group) == (row.origin, row.others, row.exception_group)
    return not is_same or bool(now.occurred or now.uncaught)


def _find_places(trace: _Trace) -> list[_Place]:
    failed: dict[bytes, Failed] = {}
    for row in trace.rows:
        failed.setdefault(row.span_id, row.as_failed())
    found = find_origins(trace.id, failed)
    places = list[_Place]()
    for row in trace.rows:
        key = find_key(row.as_failed(), failed, found)
        if key == row.own:
            key = row.origin  # If that is another, its journal has counted no occurrence here.
        places.append(_Place(key, follow_all(row.others, key, trace.id, found)))
    return places


def _find_uncaught(trace: _Trace, places: Sequence[_Place]) -> set[bytes]:
    """Return the spans whose exceptions left the trace unhandled, by themselves or in a group."""
    within = defaultdict[bytes, set[bytes]](set)
    pending = list[bytes]()
    for row, place in zip(trace.rows, places, strict=True):
        if row.leaves_unhandled:
            pending += place.others
        if place.key[0] == trace.id:
            within[place.key[1]].update(place.others)
            if row.leaves_unhandled:
                pending.append(place.key[1])
    reached = set[bytes]()
    while pending:
        span_id = pending.pop()
        if span_id not in reached:
            reached.add(span_id)
            pending += within.get(span_id, ())
    return reached


def _add(outcome: Outcome, row: _Row, now: _Correction, before: _Correction | None) -> None:
    """Add the difference of a correction to the one before."""
    if now.group and now.group != row.exception_group and (before is None or before.group != now.group):
        minute = row.at_ns // MINUTE_NS
        outcome.occurrences.append((now.group, minute, row.journal, 0, 0, NEVER, 0, [row.service]))
    if before is not None and now[1:] == before[1:]:
        return
    for sign, each in ((1, now), (-1, before)):
        if each is not None and (each.occurred or each.uncaught):
            extent = (each.at_ns, each.at_ns) if each.occurred else (NEVER, 0)
            numbers = sign * each.occurred, sign * each.uncaught
            minute = each.at_ns // MINUTE_NS
            outcome.occurrences.append((each.counted_group, minute, row.journal, *numbers, *extent, []))


def _make_corrected(row: _Row, place: _Place, now: _Correction) -> tuple[object, ...]:
    is_moved = row.how == RAISED and place.key != row.own
    return (
        row.trace_id.hex(),
        row.journal,
        row.id,
        row.span_id.hex(),
        place.key[0].hex(),
        place.key[1].hex(),
        now.group,
        PASSED if is_moved else row.how,
        CORRECTED if is_moved and row.derived == TOLD else row.derived,
        json.dumps([each.hex() for each in place.others]) if place.others else "",
        *now[1:],
    )
