"""Questions of monitoring that a store answers, and the rows of the answers."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from ztrace_viewer.queries.stores.answers import FiguresRow


class FiguresState(NamedTuple):
    """Sums that change whenever a row of figures does that they cover."""

    rows: int
    calls: int
    total_ns: int
    retired: int
    retired_calls: int


class SpanCounters(NamedTuple):
    """Spans that publishers created, that were stored, and that were lost by reason."""

    created: int
    stored: int
    lost: dict[str, int]


class GroupNumber(NamedTuple):
    """Number of a service's exception groups in one state."""

    service: str
    state: str
    number: int


class Monitoring(Protocol):
    """Questions of monitoring."""

    def figures_state(self, resolution_s: int, end: int) -> FiguresState:
        """Return the state of the figures in the buckets below the end, and of the retired ones."""
        ...

    def retired_figures(self) -> Iterable[FiguresRow]:
        """Return the figures of methods that retention has deleted, with the bucket 0."""
        ...

    def span_counters(self) -> SpanCounters:
        """Return the spans by their fate, with those of deleted publishers."""
        ...

    def group_numbers(self, new_state: str, since_ns: int) -> Iterable[GroupNumber]:
        """Return the numbers of exception groups.

        Args:
            new_state: state that open groups have which began since a moment.
            since_ns: the moment.
        """
        ...
