"""Questions about exported trees that a store answers."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from ztrace_collector.otlp.mapping.reading import StoredProcess, StoredSpan
from ztrace_viewer.queries.stores.answers import (
    ChosenTree,
    ExportSize,
)
from ztrace_viewer.queries.stores.conditions import TreeFilter


class Exporting(Protocol):
    """Questions about trees that are exported."""

    def export_size(self, wanted: TreeFilter) -> ExportSize:
        """Return the size of an export, and the start of its first tree."""
        ...

    def chosen_trees(self, wanted: TreeFilter) -> Iterator[ChosenTree]:
        """Yield the trees of an export in the order in which they began."""
        ...

    def whole_trees(self, trace_ids: Sequence[bytes], *, unfinished: bool) -> list[StoredSpan]:
        """Return the spans of some trees, those of each in the order of storing."""
        ...

    def tree_pieces(self, trace_id: bytes, size: int, *, unfinished: bool) -> Iterator[list[StoredSpan]]:
        """Yield the spans of a large tree in pieces; the last one has those without an end."""
        ...

    def first_spans(
        self, trace_ids: Sequence[bytes], size: int, *, unfinished: bool = False
    ) -> dict[bytes, list[StoredSpan]]:
        """Return the first spans of some trees, so many of each; arguments are those of `tree_after`."""
        ...

    def tree_after(
        self, trace_id: bytes, after: int, size: int, *, unfinished: bool = False
    ) -> list[StoredSpan]:
        """Return spans of a tree, so many at most.

        Args:
            trace_id: 16 bytes.
            after: ``id`` of the last span that this question has returned; 0 for the beginning.
            size: most spans.
            unfinished: return those without an end, and no others.
        """
        ...

    def process(self, key: int) -> StoredProcess | None:
        """Return a process by the key that its spans have, None if it is unknown."""
        ...
