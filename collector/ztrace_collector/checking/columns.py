"""Columns of a batch's spans, validated.

One idea: a batch is transposed once, and each column is validated by a few passes that run in C.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import compress, repeat
from operator import add
from typing import Any

from ztrace.records import INT64_MAX, KIND_NAMES, MEASURES, UNFINISHED, Span
from ztrace_collector.checking import attributes, details, mending
from ztrace_collector.refusals import Refusals

_NONE_TYPE = type(None)
_KINDS = frozenset(KIND_NAMES)
_OPEN = frozenset({UNFINISHED})
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)


@dataclass(slots=True)
class Columns:
    """Accepted spans of a batch as columns of equal length.

    A column has the name of its field in `ztrace.records.Span`; a test compares them.

    Attributes:
        kind: numbers of `ztrace.records.KIND_NAMES`.
        duration_ns: 0 for unfinished spans.
        attributes: JSON objects, None where there are none.
        links: pairs of ids.
        exception: `ztrace.records.ExceptionRecord`s, not validated yet.
        details: JSON objects, None where there are none.
        measures: the columns of `ztrace.records.MEASURES`, by name.
        end_ns: sums of start and duration.
    """

    trace_id: Sequence[bytes]
    span_id: Sequence[bytes]
    parent_id: Sequence[bytes | None]
    kind: Sequence[int]
    name: Sequence[str]
    start_ns: Sequence[int]
    duration_ns: Sequence[int]
    status: Sequence[int]
    attributes: Sequence[str | None]
    links: Sequence[Any]
    exception: Sequence[Any]
    details: Sequence[str | None]
    measures: Mapping[str, Sequence[int | None]]
    end_ns: Sequence[int]

    def __len__(self) -> int:
        return len(self.span_id)

    def select(self, chosen: Sequence[bool]) -> "Columns":
        """Return the chosen spans."""
        names = [field.name for field in fields(self) if field.name != "measures"]
        return replace(
            self,
            **{name: list(compress(getattr(self, name), chosen)) for name in names},
            measures={name: list(compress(column, chosen)) for name, column in self.measures.items()},
        )


def make_columns(spans: Sequence[Any], refusals: Refusals, finished: bool) -> Columns | None:
    """Return decoded spans as columns, or None if any span is invalid.

    Fields that have a default may be missing at the end of all spans: an older agent does not send them.

    Raises:
        TypeError, OverflowError: a span is invalid, too. ``join`` accepts nothing but bytes or strings, and
            an array of type Q only integers from 0 to 2**64: each is the cheapest check. True passes for 1.
    """
    if set(map(type, spans)) != {tuple}:
        return None
    lengths = set(map(len, spans))
    if len(lengths) != 1 or not lengths <= mending.LENGTHS:
        return None
    column: dict[str, Sequence[Any]] = dict(zip(Span._fields, zip(*spans, strict=True), strict=False))
    for name in Span._fields[len(column) :]:
        column[name] = (None,) * len(spans)
    links = column["links"]
    if not (
        _are_ids(column["trace_id"], _NO_TRACE)
        and _are_ids(column["span_id"], _NO_SPAN)
        and _are_parents(column["parent_id"])
        and _KINDS.issuperset(column["kind"])
        and _are_names(column["name"])
        and (mending.FINISHED if finished else _OPEN).issuperset(column["status"])
        and set(map(type, column["attributes"])) <= {dict, _NONE_TYPE}
        and _are_tuples_or_none(links)
        and _are_tuples_or_none(column["exception"])
    ):
        return None
    starts, durations = column["start_ns"], column["duration_ns"]
    array("Q", starts)
    if finished:
        array("Q", durations)
        ends = list(map(add, starts, durations))
    elif set(durations) == {None}:
        durations, ends = (0,) * len(spans), list(starts)
    else:
        return None
    measures = {name: column[name] for name in MEASURES}
    if max(ends) > INT64_MAX or not all(map(_are_times_or_none, measures.values())):
        return None
    if any(links) and not all(map(mending.are_links, links)):
        return None
    encoded = attributes.encode_column(column["attributes"])
    if encoded is None:
        return None
    texts, cut = encoded
    detail_maps = column["details"]
    if cut:
        detail_maps = [
            details.count_dropped(each, "attributes", len(cut.get(place, ())))
            for place, each in enumerate(detail_maps)
        ]
    detail_texts: Sequence[str | None] | None = detail_maps
    if detail_maps.count(None) != len(detail_maps):
        detail_texts = details.encode_column(detail_maps, links, refusals)
    if detail_texts is None:
        return None
    for place, keys in cut.items():
        attributes.note_cut(keys, column["name"][place], refusals)
    return Columns(
        trace_id=column["trace_id"],
        span_id=column["span_id"],
        parent_id=column["parent_id"],
        kind=column["kind"],
        name=column["name"],
        start_ns=starts,
        duration_ns=durations,
        status=column["status"],
        attributes=texts,
        links=links,
        exception=column["exception"],
        details=detail_texts,
        measures=measures,
        end_ns=ends,
    )


def _are_ids(column: Sequence[Any], zero: bytes) -> bool:
    joined = b"".join(column)
    # The first search, which runs across borders, is the cheaper one.
    return set(map(len, column)) == {len(zero)} and (zero not in joined or zero not in column)


def _are_parents(column: Sequence[Any]) -> bool:
    given = [parent_id for parent_id in column if parent_id is not None]
    return not given or _are_ids(given, _NO_SPAN)


def _are_names(column: Sequence[Any]) -> bool:
    distinct = set(column)
    "".join(distinct)
    return max(map(len, distinct)) <= mending.MAX_NAME


def _are_tuples_or_none(column: Sequence[Any]) -> bool:
    # Most spans have none, and counting None takes a fifth of looking at types.
    return column.count(None) == len(column) or set(map(type, column)) <= {tuple, _NONE_TYPE}


def _are_times_or_none(column: Sequence[Any]) -> bool:
    given = [value for value in column if value is not None]
    array("Q", given)
    return max(given, default=0) <= INT64_MAX


def link_texts(columns: Columns) -> Sequence[str | None]:
    """Return each span's links as JSON, ``[{"trace_id": hex, "span_id": hex}, ...]``, None for no links."""
    if not any(columns.links):
        return list(repeat(None, len(columns.links)))
    return [mending.link_text(links) if links else None for links in columns.links]
