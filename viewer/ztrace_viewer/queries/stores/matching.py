"""Questions of Jaeger's API that a store answers, beside those of a search, and the rows of the answers."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_viewer.queries.stores.conditions import SpanFilter


class ServiceCounts(NamedTuple):
    """Ended spans of one service in a trace; ``orphans`` have a parent that is not stored."""

    service: str
    spans: int
    errors: int
    orphans: int


class CallRow(NamedTuple):
    """A span as a call of its parent."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes | None
    method: int


class Matching(Protocol):
    """Questions of Jaeger's API."""

    def matching_traces(self, trace_ids: Sequence[bytes], matching: SpanFilter) -> set[bytes]:
        """Return those of some traces that have a span which a filter lets through."""
        ...

    def matching_stored(
        self, trace_ids: Sequence[bytes], matching: SpanFilter, hidden: Collection[bytes]
    ) -> Iterator[StoredSpan]:
        """Yield the ended spans of some traces that a filter lets through.

        Args:
            trace_ids: the traces.
            matching: the filter.
            hidden: traces to leave out; the caller may add some while spans are yielded.
        """
        ...

    def minutes_of(self, methods: Collection[int], first: int) -> list[int]:
        """Return the minutes since the first in which a call of any of the methods ended, in order."""
        ...

    def count_by_service(self, trace_ids: Sequence[bytes]) -> dict[bytes, list[ServiceCounts]]:
        """Return the counts of each service in traces, by its name."""
        ...

    def call_rows(self, trace_ids: Sequence[bytes], most: int) -> list[CallRow]:
        """Return the ended spans of some traces as calls, at most so many."""
        ...
