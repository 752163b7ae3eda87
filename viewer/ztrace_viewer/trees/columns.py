"""Spans of one trace as columns: a list for each field.

One idea: the page opens trees of 100,000 spans. Lists of numbers take a third of the time that a row for each
span takes, and the garbage collector has nothing to follow in them.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from ztrace_viewer.documents.trees import UnfinishedState
from ztrace_viewer.trees.spans import SpanRow


class Call(NamedTuple):
    """Service, name and kind of a span; spans of the same method share one."""

    service: str
    name: str
    kind: str


class Process(NamedTuple):
    """Process of a span; spans of the same process share one."""

    instance_id: str
    host: str


class Spans(NamedTuple):
    """Fields of the spans of a trace that place them in its tree, in the order of storing.

    Attributes:
        unfinished: states of spans without an end, by their positions.
    """

    span_id: Sequence[bytes]
    parent_id: Sequence[bytes | None]
    call: Sequence[Call]
    process: Sequence[Process]
    start_ns: Sequence[int]
    duration_ns: Sequence[int | None]
    self_ns: Sequence[int | None]
    lane: Sequence[int | None]
    status: Sequence[int]
    unfinished: dict[int, UnfinishedState]

    @classmethod
    def of(cls, rows: Iterable[SpanRow]) -> Self:
        """Return rows as columns."""
        rows = list(rows)
        return cls(
            [row.span_id for row in rows],
            [row.parent_id for row in rows],
            [Call(row.service, row.name, row.kind) for row in rows],
            [Process(row.instance_id, row.host) for row in rows],
            [row.start_ns for row in rows],
            [row.duration_ns for row in rows],
            [row.self_ns for row in rows],
            [row.lane for row in rows],
            [row.status for row in rows],
            {position: row.unfinished for position, row in enumerate(rows) if row.unfinished is not None},
        )

    def followed_by(self, other: "Spans") -> "Spans":
        """Return these spans and, behind them, others."""
        count = len(self.span_id)
        states = {count + position: state for position, state in other.unfinished.items()}
        return Spans(
            [*self.span_id, *other.span_id],
            [*self.parent_id, *other.parent_id],
            [*self.call, *other.call],
            [*self.process, *other.process],
            [*self.start_ns, *other.start_ns],
            [*self.duration_ns, *other.duration_ns],
            [*self.self_ns, *other.self_ns],
            [*self.lane, *other.lane],
            [*self.status, *other.status],
            {**self.unfinished, **states},
        )

    def end_ns(self, position: int) -> int:
        """Return the end of a span, Unix; its start while it has no end."""
        return self.start_ns[position] + (self.duration_ns[position] or 0)

    def find_consumers(self) -> set[int]:
        """Return the positions of consumers, which nothing waits for."""
        kinds = {call for call in set(self.call) if call.kind == "consumer"}
        return {position for position, call in enumerate(self.call) if call in kinds} if kinds else set()
