"""Spans in order of arrival, as columns."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from ztrace_collector.settling.counting import IN_ORDER, SpanRow

_TRACE_ID, _ID, _INSTANCE = map(SpanRow._fields.index, ("trace_id", "id", "instance"))
#: As `SpanRow._make`, without a call of Python for each span.
make_row: Callable[[Iterable[Any]], SpanRow] = partial(tuple.__new__, SpanRow)


class Swept:
    """Spans that were read at a time, most of whose trees are whole.

    Attributes:
        spans: the fields of `SpanRow` of each.
        columns: values of the spans, by field of `SpanRow`.
        trees: places of the spans of each tree, by the id of its trace.
    """

    def __init__(self, spans: Sequence[tuple[Any, ...]]) -> None:
        """Group at least one span, given as the fields of `SpanRow`."""
        self.spans = spans
        self.columns: Sequence[Sequence[Any]] = list(zip(*spans, strict=True))
        self.trees: dict[bytes, list[int]] = {}
        trees = self.trees
        for place, trace_id in enumerate(self.columns[_TRACE_ID]):
            places = trees.get(trace_id)
            if places is None:
                trees[trace_id] = [place]
            else:
                places.append(place)

    @property
    def ids(self) -> Sequence[int]:
        """Ids of the spans."""
        return self.columns[_ID]

    @property
    def instances(self) -> Sequence[int]:
        """Processes of the spans."""
        return self.columns[_INSTANCE]

    @property
    def keys(self) -> list[tuple[Any, ...]]:
        """Values by which the spans of a tree are ordered."""
        return list(zip(*IN_ORDER(self.columns), strict=True))

    def rows(self, trace_id: bytes) -> list[SpanRow]:
        """Return the spans of a tree."""
        return [make_row(self.spans[place]) for place in self.trees[trace_id]]
