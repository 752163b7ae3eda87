"""Extent of a trace, whatever clocks its spans have."""

from itertools import permutations
from pathlib import Path

import pytest

from tests.collector.messages import EPOCH_NS, MS, Sender, make_span, row, span_id, trace_id
from ztrace_collector.layout import HOUR_NS
from ztrace_collector.storing.store import Store

YEAR_NS = 365 * 24 * HOUR_NS
#: Present time of the collector.
NOW_NS = EPOCH_NS + HOUR_NS


def extent(path: Path, *spans: tuple[int, int | None], now_ns: int = NOW_NS) -> tuple[int, int]:
    """Return start and end of a trace stored span by span.

    Args:
        path: a new database.
        spans: start of each span of 10 ms, and number of its parent, None for a root.
        now_ns: present time.
    """
    sender = Sender()
    with Store(path, clock_ns=lambda: now_ns) as store:
        for number, (start_ns, parent) in enumerate(spans, 1):
            span = make_span(
                number,
                trace_id=trace_id(1),
                parent_id=None if parent is None else span_id(parent),
                start_ns=start_ns,
            )
            store.store([sender.data(span)])
    found = row(path, "SELECT start_ns, end_ns, hour FROM traces")
    assert found["hour"] == found["start_ns"] // HOUR_NS
    return found["start_ns"], found["end_ns"]


@pytest.mark.parametrize("off_ns", [0, EPOCH_NS - 5 * YEAR_NS, EPOCH_NS - HOUR_NS, EPOCH_NS - MS])
def test_a_clock_behind_moves_no_start(tmp_path: Path, off_ns: int) -> None:
    """A span below the root that begins before it, by whatever time, leaves the start of the trace."""
    spans: list[tuple[int, int | None]] = [(EPOCH_NS, None), (off_ns, 1), (EPOCH_NS + MS, 1)]
    for number, order in enumerate(permutations(spans)):
        root = order.index(spans[0]) + 1
        placed = [(start_ns, None if parent is None else root) for start_ns, parent in order]
        found = extent(tmp_path / f"{number}.db", *placed)
        assert found == (EPOCH_NS, EPOCH_NS + 11 * MS)


def test_a_clock_ahead_by_years_moves_no_end(tmp_path: Path) -> None:
    """A span that begins years from now does not count for the extent of its trace."""
    spans: list[tuple[int, int | None]] = [(EPOCH_NS, 9), (EPOCH_NS + 30 * YEAR_NS, 9), (EPOCH_NS + MS, 9)]
    for number, order in enumerate(permutations(spans)):
        found = extent(tmp_path / f"{number}.db", *order)
        assert found == (EPOCH_NS, EPOCH_NS + 11 * MS)


def test_a_root_that_is_off_does_not_count(tmp_path: Path) -> None:
    """A trace whose root has lost the time begins with the spans that have it."""
    spans: list[tuple[int, int | None]] = [(7, None), (EPOCH_NS + MS, 1), (EPOCH_NS, 1)]
    for number, order in enumerate(permutations(spans)):
        assert extent(tmp_path / f"{number}.db", *order) == (EPOCH_NS, EPOCH_NS + 11 * MS)


def test_a_trace_of_one_wrong_clock_has_its_time(tmp_path: Path) -> None:
    """Spans that are all years off, or all in the future, have the extent that their clock says."""
    for number, first_ns in enumerate((0, EPOCH_NS + 30 * YEAR_NS)):
        spans: list[tuple[int, int | None]] = [(first_ns + MS, 9), (first_ns, 9)]
        assert extent(tmp_path / f"{number}.db", *spans) == (first_ns, first_ns + 11 * MS)
