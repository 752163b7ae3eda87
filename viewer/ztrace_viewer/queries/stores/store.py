"""Questions that a store answers, in its own SQL."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.answers import (
    Candidate,
    DestinationRow,
    ExceptionRow,
    ExceptionText,
    FiguresRow,
    GroupRow,
    Link,
    LossRow,
    Method,
    OpenRow,
    PartRow,
    PublisherRow,
    PublisherSums,
    RaisedRow,
    ReasonRow,
    RefusalRow,
    SampleRow,
    ServiceRow,
    Sizes,
    SourceRow,
    SpanCounts,
    Stretch,
    TraceRow,
)
from ztrace_viewer.queries.stores.asked import Asked
from ztrace_viewer.queries.stores.conditions import Filter, SpanFilter, Wanted
from ztrace_viewer.queries.stores.exporting import Exporting
from ztrace_viewer.queries.stores.matching import Matching
from ztrace_viewer.queries.stores.monitoring import Monitoring
from ztrace_viewer.queries.stores.profiling import Paths, Samples, Stacks
from ztrace_viewer.trees.clocks import Cell
from ztrace_viewer.trees.columns import Spans
from ztrace_viewer.trees.spans import SpanRow


class Names(Protocol):
    """Questions about names and ids."""

    def methods(self) -> dict[int, Method]:
        """Return every method by its id."""
        ...

    def trace_ids(self, ranges: Sequence[tuple[bytes, bytes]], limit: int) -> list[bytes]:
        """Return trace ids between the two of each range, of ended and open spans; some may come twice.

        Args:
            ranges: the first and the last id of each.
            limit: most ids of a range, at least.
        """
        ...

    def nearest_traces(self, trace_ids: Sequence[bytes]) -> list[bytes]:
        """Return the trace ids that are stored next before and after each of some."""
        ...

    def find_thinned(self, first: bytes, last: bytes) -> bytes | None:
        """Return a thinned trace from the first id to the last, None if there is none."""
        ...

    def group_ids(self, first: str, end: str, limit: int) -> list[str]:
        """Return the fingerprints of exception groups from the first to below the end, in order."""
        ...

    def nearest_groups(self, fingerprints: Sequence[str]) -> list[str]:
        """Return the fingerprints that are stored next before and after each of some."""
        ...


class Trees(Protocol):
    """Questions about traces and their spans."""

    def slowest(
        self,
        selection: Selection,
        methods: Collection[int] | None,
        limit: int,
        *,
        hidden: Collection[bytes] = (),
        errors: bool = False,
    ) -> list[tuple[int, bytes]]:
        """Return duration and id of the slowest traces that began in the selection's time, in any order.

        Args:
            selection: the time.
            methods: ids of their roots' methods; None for any.
            limit: most traces.
            hidden: traces to leave out.
            errors: only traces with a failed span.
        """
        ...

    def traces(self, trace_ids: Collection[bytes]) -> dict[bytes, TraceRow]:
        """Return the totals of traces, without those of which no span has ended."""
        ...

    def root_start(self, trace: TraceRow) -> int | None:
        """Return the start of a trace's ended root."""
        ...

    def count_spans(self, trace_ids: Collection[bytes]) -> dict[bytes, SpanCounts]:
        """Return the numbers of the ended spans of traces, without those that have none."""
        ...

    def spans(self, trace_id: bytes) -> Iterator[SpanRow]:
        """Yield a trace's ended spans in the order of storing."""
        ...

    def columns(self, trace_id: bytes) -> Spans:
        """Return the same in columns, without what only one span in full shows."""
        ...

    def links(self, trace_id: bytes) -> Iterable[Link]:
        """Return the links of a trace's ended spans, in the order of storing."""
        ...

    def linked_spans(self, trace_id: bytes, links: Collection[Link]) -> dict[bytes, SpanRow]:
        """Return the ended spans of some links of a trace, by their ids."""
        ...

    def open_spans(self, trace_ids: Collection[bytes], now_ns: int) -> list[SpanRow]:
        """Return the spans of traces that have not ended, in the order of their first report."""
        ...

    def open_roots(self, now_ns: int) -> Iterable[SpanRow]:
        """Return the open roots, and all open spans of traces of which no span has ended."""
        ...

    def open_calls(self, selection: Selection, now_ns: int) -> Iterable[SpanRow]:
        """Return the open spans that began in the selection's time and have its names."""
        ...

    def exceptions(self, trace_id: bytes) -> Iterable[ExceptionRow]:
        """Return a trace's exceptions in the order of storing."""
        ...

    def raised(self, trace_id: bytes) -> Iterable[RaisedRow]:
        """Return the same by their text alone, without spans that merely failed."""
        ...

    def refused_spans(self, trace_id: bytes) -> dict[bytes, str]:
        """Return the reasons by the ids of a trace's refused spans."""
        ...

    def clock_cells(self, host: str, other: str, cell: int, most: int) -> Iterable[Cell]:
        """Return the bounds of two hosts' clocks nearest to a time: so many up to it, and so many after."""
        ...

    def part_counts(
        self, since_ns: int, until_ns: int, width_ns: int, methods: Collection[int] | None
    ) -> Iterable[PartRow]:
        """Return the traces that began in each part of a stretch of time, by their roots' methods."""
        ...

    def first_start(self) -> int | None:
        """Return the start of the first trace."""
        ...

    def is_thinned(self, trace_id: bytes) -> bool:
        """Return whether spans of a trace have been thinned; it may have later ones."""
        ...

    def thinned_until(self) -> int | None:
        """Return the start of the latest trace that thinning has kept, None before the first."""
        ...


class Searching(Protocol):
    """Questions of a search, which reads the newest traces first."""

    def last_hour(self, hour: int) -> int | None:
        """Return the last hour up to one in which traces began."""
        ...

    def page_start(self, hour: int, start_ns: int, end_ns: int, size: int) -> int | None:
        """Return the start of the trace behind a page's last one, None if the page has all of the hour."""
        ...

    def candidates(self, hour: int, wanted: Wanted) -> Iterator[Candidate]:
        """Yield the traces of an hour that meet the conditions, the newest first."""
        ...

    def matching_spans(self, trace_ids: Sequence[bytes], matching: SpanFilter) -> Iterator[SpanRow]:
        """Yield the ended spans of some traces that a filter lets through, in the order of storing."""
        ...

    def exception_texts(self, trace_ids: Collection[bytes]) -> list[ExceptionText]:
        """Return type and message of the exceptions of traces."""
        ...


class Errors(Protocol):
    """Questions about exception groups."""

    def groups(self, selection: Selection, wanted: Filter, order: str, limit: int | None) -> list[GroupRow]:
        """Return the selected groups; with a time, counts are those of the minutes that it touches."""
        ...

    def group(self, fingerprint: str) -> GroupRow | None:
        """Return one group over all time."""
        ...

    def count_resolved(self, selection: Selection, wanted: Filter) -> int:
        """Return the number of resolved groups of the same selection."""
        ...

    def occurrences(self, stretches: Sequence[Stretch], parts: int) -> list[list[int]]:
        """Return the numbers of groups' occurrences in each of so many parts of a stretch of minutes."""
        ...

    def samples(self, groups: Sequence[GroupRow]) -> dict[str, list[SampleRow]]:
        """Return the samples of groups by their fingerprints, in order of time."""
        ...


class Accounts(Protocol):
    """Questions about figures, and about what is stored, lost and refused."""

    def figure_edges(self, resolution_s: int, first: int, end: int) -> tuple[int, int] | None:
        """Return the first and the last bucket that has figures, of those from the first to below the end."""
        ...

    def figures(
        self, resolution_s: int, first: int, end: int, methods: Collection[int] | None
    ) -> Iterable[FiguresRow]:
        """Return the figures of methods in the buckets from the first to below the end."""
        ...

    def sizes(self) -> Sizes:
        """Return what is stored, and the bytes that it takes."""
        ...

    def settling(self, name: str) -> int:
        """Return a value of the table ``settling``, 0 without one."""
        ...

    def unsettled(self) -> int:
        """Return the number of spans that have arrived since the last one up to which all are counted."""
        ...

    def losses(self, begin_ns: int, end_ns: int) -> Iterable[LossRow]:
        """Return the losses that touch a stretch of time."""
        ...

    def loss_page(self, limit: int, skip: int) -> tuple[int, list[LossRow]]:
        """Return the number of losses, and a page of them, the latest first."""
        ...

    def sources(self) -> Iterable[SourceRow]:
        """Return the state of every process."""
        ...

    def publishers(self, limit: int, skip: int) -> Iterable[PublisherRow]:
        """Return a page of the publishers, the latest seen first."""
        ...

    def services(self, now_ns: int, limit: int) -> Iterable[ServiceRow]:
        """Return the sums of each service, those with the most publishers first."""
        ...

    def publisher_sums(self) -> PublisherSums:
        """Return the sums over all publishers."""
        ...

    def reasons(self) -> Iterable[ReasonRow]:
        """Return the corrections that publishers made, the most frequent first."""
        ...

    def refusals(self) -> Iterable[RefusalRow]:
        """Return what the collector refused and corrected, the latest first."""
        ...

    def open_states(self) -> Iterable[OpenRow]:
        """Return the last report of every span without an end."""
        ...

    def destinations(self) -> Iterable[DestinationRow]:
        """Return the destinations that spans are sent on to, those in use first."""
        ...

    def destination_refusals(self, key: int) -> Iterable[RefusalRow]:
        """Return what a destination refused, the latest first."""
        ...


class Store(
    Names,
    Trees,
    Searching,
    Matching,
    Errors,
    Accounts,
    Monitoring,
    Asked,
    Paths,
    Samples,
    Stacks,
    Exporting,
    Protocol,
):
    """A store of traces."""

    def within(self, deadline: Deadline) -> AbstractContextManager[None]:
        """Interrupt questions within the block at a deadline.

        Raises:
            TooLong: a question was interrupted.
        """
        ...

    def release(self) -> None:
        """Release the snapshot once everything is read."""
        ...
