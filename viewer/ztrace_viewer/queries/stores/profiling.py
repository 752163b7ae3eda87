"""Questions about figures by call path, and about sampled code, that a store answers."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from ztrace_collector.settling.counting import SpanRow as CountedSpan
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.answers import (
    FrameRow,
    PathFigures,
    PathKey,
    PathRank,
    PathUnit,
    RootRow,
    Run,
    StackTime,
    VersionRow,
)
from ztrace_viewer.queries.stores.conditions import Ranges, TreeKind


class Paths(Protocol):
    """Questions about figures by call path."""

    def paths(self) -> Iterable[PathKey]:
        """Return every path, each behind the path above."""
        ...

    def path_edges(self, resolution_s: int) -> tuple[int, int] | None:
        """Return the first and the last bucket that has figures by path."""
        ...

    def path_ranks(self, ranges: Ranges, kind: TreeKind) -> Iterable[PathRank]:
        """Return the ranks of every path over ranges of buckets."""
        ...

    def path_sums(self, ranges: Ranges) -> Iterable[PathFigures]:
        """Return the sums of every path over ranges of buckets."""
        ...

    def path_figures(
        self, ranges: Ranges, paths: Collection[int], kind: TreeKind
    ) -> tuple[dict[int, PathFigures], dict[int, Counter[int]]]:
        """Return the sums and the histograms of some paths over ranges of buckets."""
        ...

    def path_versions(
        self, ranges: Ranges, paths: Collection[int], kind: TreeKind
    ) -> Iterable[tuple[int, VersionRow]]:
        """Return the versions with calls of some paths in each range of buckets, with the range's sign."""
        ...

    def path_units(self, resolution_s: int, first: int, end: int, version: str | None) -> Iterable[PathUnit]:
        """Return the sums of paths in each bucket from the first to below the end, of a version or of all."""
        ...

    def root_versions(self, resolution_s: int, first: int, end: int, roots: Collection[int]) -> list[str]:
        """Return the versions that have trees of some roots in such buckets, by their first bucket."""
        ...


class Samples(Protocol):
    """Questions about trees that are read span by span."""

    def root_trees(self, methods: Collection[int], selection: Selection) -> list[RootRow]:
        """Return the trees of some root methods that began in a time, in any order."""
        ...

    def tree_spans(
        self, trace_ids: Sequence[bytes], most: int
    ) -> dict[bytes, list[tuple[CountedSpan, str | None]]]:
        """Return the ended spans of trees as they are counted, so many of each, and their attributes as JSON.

        A tree that has expired is missing in the result.
        """
        ...

    def host(self, instance: int) -> str | None:
        """Return the host of a process by the store's key, None if it is unknown."""
        ...


class Stacks(Protocol):
    """Questions about sampled code."""

    def method_stacks(
        self, ranges: Ranges, methods: Collection[int]
    ) -> Iterable[tuple[int, int, Iterable[StackTime]]]:
        """Return the code of methods in ranges of buckets: sign of the range, method, and times by stack."""
        ...

    def run_times(self, ranges: Ranges, methods: Collection[int]) -> Iterable[tuple[int, int, int, int]]:
        """Return sign, method, nanoseconds in which its code ran, and all that were sampled."""
        ...

    def frame(self, stack: int) -> FrameRow | None:
        """Return the innermost frame of a stack, None if it is unknown."""
        ...

    def span_runs(self, trace_id: bytes, span_id: bytes, service: str) -> list[Run]:
        """Return the runs of a span that was sampled by itself, in the order of storing."""
        ...

    def has_span_stacks(self) -> bool:
        """Return whether any span has code of its own."""
        ...
