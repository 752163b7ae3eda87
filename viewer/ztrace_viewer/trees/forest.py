"""One tree's spans in order, for formats that draw it: pure functions.

One idea: as in `ztrace_viewer.trees.tree`, a span is a position in a sorted list; ids may repeat or form
circles, positions do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_viewer.trees.tree import break_circles


@dataclass(frozen=True, slots=True)
class Forest:
    """Spans, parents before their children and siblings by their start.

    Attributes:
        spans: all of them, once.
        parents: the position of each one's parent, None for a root.
        children: positions.
    """

    spans: Sequence[StoredSpan]
    parents: Sequence[int | None]
    children: Sequence[Sequence[int]]

    @property
    def roots(self) -> list[int]:
        """Positions of spans without a parent here."""
        return [position for position, parent in enumerate(self.parents) if parent is None]


def arrange(spans: Sequence[StoredSpan]) -> Forest:
    """Arrange the spans of one tree."""
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
    """Return what a call is shown as, the same as in ``ztrace show``."""
    between = {3: " → ", 4: " ⇢ ", 5: " ⇠ "}.get(span.kind, ".")
    return f"{span.service}{between}{span.name}"
