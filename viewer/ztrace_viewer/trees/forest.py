"""Spans of one tree in order, for formats that draw it.

One idea: as in `ztrace_viewer.trees.tree`, a span is a position in a sorted list. Ids can be repeated or form
circles, positions cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_viewer.trees.arrangement import break_circles


@dataclass(frozen=True, slots=True)
class Forest:
    """Spans, parents before their children and siblings by their start.

    Attributes:
        spans: each span once.
        parents: position of each span's parent, None for a root.
        children: positions of each span's children.
    """

    spans: Sequence[StoredSpan]
    parents: Sequence[int | None]
    children: Sequence[Sequence[int]]

    @property
    def roots(self) -> list[int]:
        """Positions of spans without a parent here."""
        return [position for position, parent in enumerate(self.parents) if parent is None]


def arrange(spans: Sequence[StoredSpan]) -> Forest:
    """Return the spans of one tree as a forest."""
    ordered = sorted(spans, key=lambda span: (span.start_ns, -span.duration_ns))
    positions: dict[bytes, int] = {}
    for position, span in enumerate(ordered):
        positions.setdefault(span.span_id, position)
    parents = [None if span.parent_id is None else positions.get(span.parent_id) for span in ordered]
    break_circles(parents)
    children: list[list[int]] = [[] for _ in ordered]
    for position, parent in enumerate(parents):
        if parent is not None:
            children[parent].append(position)
    order: list[int] = []
    pending = [position for position, parent in enumerate(parents) if parent is None][::-1]
    while pending:
        position = pending.pop()
        order.append(position)
        pending.extend(reversed(children[position]))
    place = {position: number for number, position in enumerate(order)}
    return Forest(
        [ordered[position] for position in order],
        [None if (parent := parents[position]) is None else place[parent] for position in order],
        [[place[child] for child in children[position]] for position in order],
    )


def name_span(span: StoredSpan) -> str:
    """Return the display name of a call, as in ``ztrace show``."""
    between = {"client": " → ", "producer": " ⇢ ", "consumer": " ⇠ "}.get(span.kind, ".")
    return f"{span.service}{between}{span.name}"
